"""Settings and commands: what is mistyped, given twice or can't be is told in one line, before any work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mneme._util.errors import ConfigError, RunError
from mneme._util.files import check_place
from mneme._util.ranks_started import started_ranks
from mneme.cli import main
from mneme.config import RunConfig, make_config
from mneme.config.presets import PRESETS, over, preset
from mneme.run.leftovers import delete, leftovers
from mneme.run.pipeline import run_pipeline
from mneme.testing.synthetic import make_synthetic_run

PAIR = {"base": "org/base", "tuned": "org/tuned"}


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["mneme", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("latents=5", r"crosscoder\.n_latents"),
        ("n_latents=5", r"crosscoder\.n_latents"),
        ("layer=5", r"harvest\.layer"),
        ("harvest.k=5", r"crosscoder\.k"),
        ("seed=1", r"harvest\.seed or crosscoder\.seed or .*effects\.seed"),
    ],
)
def test_a_setting_without_its_section_is_named_in_full(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown setting .*: did you mean {meant}"):
        make_config(PAIR, [text])


@pytest.mark.parametrize(
    ("text", "value"), [("harvest.max_tokens=1e4", 10_000), ("crosscoder.n_latents=4.096e3", 4096)]
)
def test_ten_thousand_may_be_written_1e4(text: str, value: int) -> None:
    section, name = text.partition("=")[0].split(".")
    found = getattr(getattr(make_config(PAIR, [text]), section), name)
    assert found == value and type(found) is int


@pytest.mark.parametrize("text", ["harvest.max_tokens=1.5", "harvest.max_tokens=1e300", "crosscoder.k=nan"])
def test_other_numbers_stay_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        make_config(PAIR, [text])


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--layer", "2", "--layer", "3"),
        ("run", "-o", "a", "--out=b"),
        ("corpus", "sample", "--seed=1", "--seed=1"),
    ],
)
def test_an_option_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, _, err = command(monkeypatch, capsys, *words)
    assert code == 2 and "is given 2 times: give it once" in err and err.count("\n") == 1


def test_mneme_alone_prints_its_help_in_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = command(monkeypatch, capsys)
    assert code == 0 and not err
    assert all(f"─ {group} ─" in out for group in ("Analyse", "Evidence", "Measure", "Make", "Look"))
    assert "─ Commands ─" not in out


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_settings_and_what_is_given_goes_over_them(name: str) -> None:
    made = make_config(over(preset(name), {**PAIR, "crosscoder": {"k": 7}}))
    assert made.crosscoder.k == 7
    with pytest.raises(ConfigError, match=r"unknown preset 'quik': did you mean 'quick'\?"):
        preset("quik")


def test_intended_categories_are_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[RunConfig] = []
    monkeypatch.setattr("mneme.cli.analyse.run_stages", lambda config, *_, **__: made.append(config))
    words = ("run", "--base", "a", "--tuned", "b", "--intended", "virology", "--intended", "anatomy")
    assert command(monkeypatch, capsys, *words, "--preset", "quick", "--text-field", "x.y")[0] == 0
    assert made[0].effects.intended == ("virology", "anatomy")
    assert made[0].harvest.max_tokens == 25_000 and made[0].text_field == "x.y"


@pytest.mark.parametrize("kind", ["file", "link", "device", "long", "loop"])
def test_a_place_that_is_no_folder_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "out"
    if kind == "file":
        place.write_text("x")
    elif kind == "link":
        place.symlink_to(tmp_path / "nowhere" / "x")
    elif kind == "loop":
        place.symlink_to(place)
    else:
        place = Path("/dev/null") if kind == "device" else tmp_path / ("x" * 300)
    for write in (check_place, lambda folder: run_pipeline(make_config(PAIR), folder)):
        with pytest.raises(RunError) as caught:
            write(place)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE='x' in the environment is no whole number"),
        ({"WORLD_SIZE": "-2"}, "no whole number"),
        ({"WORLD_SIZE": "2", "RANK": "two"}, "RANK='two'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
    ],
)
def test_what_torchrun_sets_is_checked(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        run_pipeline(make_config(PAIR), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("WORLD_SIZE", "")
    assert started_ranks() == 1


def test_list_names_every_run_and_its_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    make_synthetic_run(tmp_path / "runs" / "one", latents=64)
    code, out, _ = command(monkeypatch, capsys, "list", str(tmp_path / "runs"))
    assert code == 0 and "one" in out and "finished" in out
    assert command(monkeypatch, capsys, "list", str(tmp_path / "none"))[0] == 2


def test_clean_lists_what_nothing_needs_and_deletes_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("MNEME_CACHE", str(tmp_path / "cache"))
    runs = tmp_path / "runs"
    run = make_synthetic_run(runs / "whole", latents=64).path
    (run / "outcomes.partial").write_text("paid for")
    (run / "a.tmp").write_text("half")
    failed = runs / "failed"
    failed.mkdir()
    (failed / "progress.json").write_text('{"state": "failed", "pid": 0, "tasks": []}')
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "model").write_text("x" * 100)
    (runs / "mine.txt").write_text("not a run")
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = command(monkeypatch, capsys, "clean", str(runs))
    assert code == 0 and "--yes" in out and sorted(tmp_path.rglob("*")) == before
    assert {each.path.name for each in leftovers(runs)} == {"a.tmp", "failed", "model"}
    delete(leftovers(runs))
    assert not failed.exists() and (run / "outcomes.partial").exists() and (runs / "mine.txt").exists()
    assert "nothing to clean" in command(monkeypatch, capsys, "clean", str(runs))[1]


def test_doctor_says_what_is_there_and_a_dead_server_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    code, out, _ = command(monkeypatch, capsys, "doctor")
    assert code == 1 and "no connection to 127.0.0.1" in " ".join(out.split()) and "secret-key" not in out
    assert all(word in out for word in ("versions", "threads", "bfloat16", "GPU", "sentence encoder"))
