"""The report in every format: complete, and harmless whatever the run's texts hold."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mneme._util.errors import DiskFullError, RunError
from mneme.report import build_report, to_html, to_json, to_markdown, write, write_report
from mneme.report.charts import SHAPES, effect_bars, largest
from mneme.report.latents import Context
from mneme.report.model import Effect
from mneme.report.phrases import measured_title, pieces
from mneme.store.run import Run
from mneme.testing.synthetic import HOSTILE

_OURS = frozenset(
    """html head meta title style body header h1 h2 h3 p nav a bdi section table thead tbody tr th td caption small
    figure figcaption div span svg path rect text article dl dt dd mark ul ol li code footer""".split()  # noqa: SIM905
)
_FILES = [
    *("report.html", "report.md", "report.json", "latents.csv", "latents.parquet"),
    *("causal.csv", "effects.csv", "findings.csv", "outcomes.csv", "power.csv", "evaluation.csv"),
]


class _Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in ("meta", "path", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "rect"):
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_hostile_texts_add_no_tag_attribute_or_address_to_the_page(hostile_run: Run) -> None:
    page = _Page(to_html(build_report(hostile_run)))
    assert page.open == []
    assert page.tags <= _OURS
    assert not [
        name for name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset", "style")
    ]
    addresses = {value for name, value in page.attributes if name == "href"}
    assert {a for a in addresses if a and not a.startswith("#")} == {
        "https://arxiv.org/abs/2507.21084",
        "https://arxiv.org/abs/2504.02922",
    }
    assert "<script>window.hacked=1</script>" in page.text, "the token is shown, as text"


def test_the_page_forbids_scripts_and_requests(plain_run: Run) -> None:
    page = _Page(to_html(build_report(plain_run)))
    policy = (
        dict(page.attributes).get("content"),
        [v for _, v in page.attributes if v and "default-src 'none'" in v],
    )
    assert policy[1] and "script-src" not in policy[1][0]
    assert "url(" not in to_html(build_report(plain_run)) and "@import" not in to_html(
        build_report(plain_run)
    )


@pytest.mark.parametrize("render", [to_html, to_markdown])
def test_no_invisible_character_reaches_a_page(hostile_run: Run, render) -> None:  # type: ignore[no-untyped-def]
    text = render(build_report(hostile_run))
    assert not re.findall("[\x00-\x09\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text)
    assert "⟨U+202E⟩" in text or "⟨U\\+202E⟩" in text
    assert "x" * 300 not in text


def test_hostile_texts_are_inert_in_markdown(hostile_run: Run) -> None:
    text = to_markdown(build_report(hostile_run))
    assert set(re.findall(r"<\s*/?\s*(\w+)", text)) <= {"b"}, "only our own highlighting is markup"
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert links == ["https://arxiv.org/abs/2507.21084", "https://arxiv.org/abs/2504.02922"]
    assert "![" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().split("\n")}
        assert len(columns) == 1, "a pipe in a text split a cell"


def test_json_holds_the_report_and_no_markup(hostile_run: Run) -> None:
    report = build_report(hostile_run)
    text = to_json(report)
    assert text.isascii() and not set("<>&") & set(text)
    read = json.loads(text)
    assert read["facts"]["base"] == HOSTILE[1]
    assert read["latents"][0]["contexts"][0]["tokens"] == list(report.latents[0].contexts[0].tokens)
    assert read["verdict_counts"] == dict(report.verdict_counts)


def test_every_key_of_the_json_is_documented(plain_run: Run) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.split("## JSON")[1].splitlines() if line.startswith("| `")]
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert documented == set(json.loads(to_json(build_report(plain_run))))


def test_every_format_tells_the_same_findings(plain_run: Run) -> None:
    report = build_report(plain_run)
    page, text = _Page(to_html(report)).text, to_markdown(report).replace("\\", "")
    for effect in report.effects:
        assert effect.name in page and effect.name in text
    for latent in report.latents:
        assert f"Latent {latent.latent}," in page and f"Latent {latent.latent}," in text
    for check in report.health:
        assert check.title in page and check.title in text
    assert report.verdict in page


def test_all_files_are_written(plain_run: Run, tmp_path: Path) -> None:
    written = write_report(plain_run, tmp_path / "out")
    assert sorted(p.name for p in written) == sorted(_FILES)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(_FILES)
    assert (tmp_path / "out" / "report.html").stat().st_size < 1_000_000
    latents = pq.read_table(tmp_path / "out" / "latents.parquet").to_pandas()
    expected = plain_run.sql("SELECT * FROM latents ORDER BY latent")
    assert latents["latent"].tolist() == expected["latent"].tolist()
    assert latents["log_ratio"].equals(expected["log_ratio"])


def test_csv_cells_are_whole_lines_and_never_formulas(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    labels = ["=HYPERLINK(1)", "two\nlines", "@SUM(1)", 'quote",comma']
    ids = range(len(labels))
    with run.stage_writer() as writer:
        writer.replace("latents", pd.DataFrame({"latent": ids, "log_ratio": [-0.5, None, 1.0, -2.0]}))
        writer.replace("labels", pd.DataFrame({"latent": ids, "label": labels, "method": "offline"}))
    write_report(run, tmp_path)
    lines = (tmp_path / "latents.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(labels)
    rows = list(csv.DictReader(lines))
    assert [row["label"] for row in rows] == ["'=HYPERLINK(1)", "two↵lines", "'@SUM(1)", 'quote",comma']
    assert [row["log_ratio"] for row in rows] == ["-0.5", "", "1.0", "-2.0"]


def test_the_run_folder_is_the_default(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.stage_writer():
        pass
    assert {p.parent for p in write_report(run)} == {tmp_path / "run" / "report"}


def test_a_full_disk_leaves_the_old_file_and_names_the_fix(
    plain_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match="no space left"):
        write_report(plain_run, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_folder_that_is_a_file_is_refused(plain_run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"):
        write_report(plain_run, tmp_path / "file" / "report")


def test_the_strongest_token_is_in_the_middle_and_highlighted() -> None:
    tokens = tuple(f" w{i}" for i in range(60))
    activations = [0.0] * 60
    activations[40], activations[41], activations[2] = 8.0, 2.1, 4.0
    found = pieces(Context(0, 0, "", tokens, tuple(activations)))
    assert [(p.text, p.strength) for p in found if p.strength] == [(" w40", 4), (" w41", 2)]
    assert found[0].text.startswith("…") and " w2" not in found[0].text.split()


def test_a_context_that_never_fires_is_plain() -> None:
    found = pieces(Context(0, 0, "", ("a", "b"), (0.0, float("nan"))))
    assert [(p.text, p.strength) for p in found] == [("ab", 0)]
    assert pieces(Context(0, 0, "", (), ())) == []


def _effect(key: str, effect: float, change: float | None) -> Effect:
    low, high = (None, None) if change is None else (change - 0.1, change + 0.1)
    texts = dict.fromkeys(
        ("group", "direction", "verdict", "reason", "shown_by", "source", "measured", "call", "unit"), ""
    )
    absent = dict.fromkeys(
        ("nll_change", "nll_low", "nll_high", "kl", "n_tokens", "accuracy_change", "n_items")
    )
    return Effect(
        category=key,
        name=key,
        effect=effect,
        ci_low=effect / 2,
        ci_high=effect * 2,
        measured_change=change,
        measured_low=low,
        measured_high=high,
        intended=False,
        **texts,
        **absent,
    )


def test_a_large_measured_change_is_drawn_though_nothing_was_predicted() -> None:
    effects = [_effect(f"c{i}", 1 / (i + 1), 0.0) for i in range(60)] + [_effect("surprise", 0.0, 3.0)]
    shown = largest(effects, 10)
    assert (
        len(shown) == 10 and "surprise" in {e.category for e in shown} and "c0" in {e.category for e in shown}
    )


def test_measured_changes_are_named_by_their_unit() -> None:
    rate = [dataclasses.replace(_effect("a", 1.0, 0.1), unit="error rate"), _effect("b", 0.25, None)]
    assert measured_title(rate) == "measured change, error rate"
    assert (
        measured_title([dataclasses.replace(e, unit=e.unit and "nats") for e in rate])
        == "measured NLL change, nats"
    )


def test_bars_are_as_long_as_their_values() -> None:
    drawn = effect_bars([_effect("a", 1.0, None), _effect("b", 0.25, None)], "measured")
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="10"', drawn)]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.2)
    assert "not measured" in drawn


def test_every_verdict_has_a_shape_of_its_own() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES) == 5


def test_patching_is_told_in_every_form(plain_run: Run, tmp_path: Path) -> None:
    report = build_report(plain_run)
    page, text, values = to_html(report), to_markdown(report), json.loads(to_json(report))
    for line in values["causal"]["sentences"]:
        assert line.split("%")[0] in page
    assert "Undoing the change of" in page and "as many unchanged latents 1 %" in page
    assert "| all changed latents | undone in the tuned model |" in text
    assert {row["source"] for row in values["causal"]["together"]} >= {"latents", "random latents", "whole"}
    assert values["causal"]["latents"][0]["kl_share"] >= values["causal"]["latents"][1]["kl_share"]
    assert not any("patching" in part["what"] for part in values["not_measured"])
    shutil.copytree(plain_run.path, tmp_path / "run")
    other = Run(tmp_path / "run")
    with other.stage_writer() as writer:
        writer.connection.execute("DELETE FROM causal")
    without = build_report(other)
    assert any("patching" in part.what for part in without.not_measured)
    assert "Undoing" not in to_html(without) + to_markdown(without)
