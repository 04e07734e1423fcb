"""Every page runs on a whole, a hostile, a half-finished and a damaged run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
PAGES = [
    *[
        "overview",
        "side_effects",
        "latents",
        "latent",
        "map",
        "review",
        "try_text",
        "compare",
        "evidence",
        "health",
        "report",
    ],
    "runs",
]


def open_page(
    monkeypatch: pytest.MonkeyPatch, runs: Path, page: str, run: str = "whole", **parameters: str
) -> AppTest:
    monkeypatch.setenv("MNEME_RUNS", str(runs))
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.query_params["run"] = run
    for key, value in parameters.items():
        app.query_params[key] = value
    app.run()
    if page != "overview":
        app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception, app.exception[0].value
    return app


@pytest.mark.parametrize("run", ["whole", "hostile", "half", "damaged"])
@pytest.mark.parametrize("page", PAGES)
def test_every_page_runs(monkeypatch: pytest.MonkeyPatch, runs: Path, page: str, run: str) -> None:
    assert open_page(monkeypatch, runs, page, run).title


def test_a_latent_says_in_how_many_seeds_it_is_found(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    wanted = "SELECT latent, seeds_found FROM latents WHERE n_seeds = 3 AND seeds_found < 3 LIMIT 1"
    [(latent, found)] = Run(runs / "whole").rows(wanted)
    app = open_page(monkeypatch, runs, "latent", latent=str(latent))
    assert any(f"found in {found} of 3 seeds" in each.value for each in app.markdown)


def test_an_empty_folder_says_how_to_make_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MNEME_RUNS", str(tmp_path))
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert not app.exception
    assert "no run" in app.info[0].value and app.code[0].value == "mneme demo"


def test_a_missing_stage_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latents", "half")
    assert "attribution" in app.info[0].value and "mneme run" in app.code[0].value


def test_a_damaged_run_is_named_as_such(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "overview", "damaged")
    assert "can't be read" in app.error[0].value and "damaged" in app.code[0].value


def test_mneme_run_preselects(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    monkeypatch.setenv("MNEME_RUNS", str(runs))
    monkeypatch.setenv("MNEME_RUN", "hostile")
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert app.selectbox(key="run").value == "hostile"


def test_a_label_no_better_than_others_is_called_unreliable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_synthetic_run(tmp_path / "run", latents=150)
    run = Run(tmp_path / "run")
    labels = run.sql("SELECT * FROM labels ORDER BY latent").assign(
        score=0.8, score_shuffled=0.5, gain_low=0.1
    )
    worst, best = (int(j) for j in labels["latent"][:2])
    labels.loc[labels["latent"] == worst, ["score", "gain_low"]] = 0.6, -0.1
    with run.stage_writer() as writer:
        writer.replace("labels", labels)
    shown = open_page(monkeypatch, tmp_path, "latents", "run").dataframe[0].value
    named = shown[shown["label"].str.endswith("(unreliable)")]
    assert named["latent"].tolist() == [worst]
    for latent, weak in ((worst, True), (best, False)):
        app = open_page(monkeypatch, tmp_path, "latent", "run", latent=str(latent))
        assert any("unreliable label" in box.value for box in app.markdown) == weak


def test_a_filter_narrows_the_table(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latents")
    before = len(app.dataframe[0].value)
    app.text_input(key="find").set_value("virus").run()
    labels = app.dataframe[0].value["label"]
    assert 0 < len(labels) < before and all("virus" in label for label in labels)


def test_a_typed_range_and_nonsense_in_it(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latents")
    app.text_input(key="range").set_value("delta_norm 0.6..1, nonsense 1..2; DROP TABLE latents").run()
    shown = app.dataframe[0].value
    assert len(shown) and (shown["delta_norm"] > 0.59).all()
    assert not app.exception


def test_next_steps_through_the_filter(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latent")
    first = app.number_input(key="latent").value
    next(b for b in app.button if b.label == "Next").click().run()
    second = app.number_input(key="latent").value
    assert first != second
    next(b for b in app.button if b.label == "Previous").click().run()
    assert app.number_input(key="latent").value == first


def test_a_deep_link_opens_the_latent(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latent", latent="7")
    assert app.title[0].value == "Latent 7"


def test_all_betas_of_a_latent_are_on_its_page(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latent", latent="0")
    (table,) = (block for block in app.get("html") if "mneme-betas" in str(block.proto.body))
    assert str(table.proto.body).count("<small>") == 12


def test_an_unknown_latent_is_no_exception(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    app = open_page(monkeypatch, runs, "latent", latent="999999")
    assert "no latent" in app.info[0].value


def test_hostile_text_is_shown_escaped(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    for page in ("overview", "latent", "side_effects"):
        app = open_page(monkeypatch, runs, page, "hostile", latent="1")
        scripts = [block.value for block in app.html if block.proto.unsafe_allow_javascript]
        harmless = open_page(monkeypatch, runs, page, "whole", latent="1").html
        assert scripts == [block.value for block in harmless if block.proto.unsafe_allow_javascript]
        for block in app.html:
            if block.value in scripts:  # word for word as with a harmless run
                continue
            # a finding's curve is an image of numbers alone, in letters that can't end its attribute
            text = re.sub(
                r'<img src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]*" style="[^"<>]*" alt="Displacement',
                "",
                block.value,
            )
            assert "<script" not in text and "<img" not in text and "<svg" not in text
        for block in [*app.markdown, *app.caption]:
            assert "](javascript:" not in block.value
            assert "![pixel]" not in block.value
            assert ":red[fake]" not in block.value


def test_a_form_that_leads_out_of_the_runs_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    app = open_page(monkeypatch, runs, "runs")
    app.text_input(key="new_name").set_value("../outside")
    app.button(key="FormSubmitter:new_run-Start").click().run()
    assert "name" in app.error[0].value.lower() or any("name" in e.value for e in app.error)
    assert not (runs.parent / "outside").exists()


def test_no_page_loads_torch_or_asks_in_sql(runs: Path) -> None:
    visit = f"""
import os, sys, time
from streamlit.testing.v1 import AppTest
from mneme.compare.cache import CompareFile
CompareFile.start = lambda self: self.say(pid=os.getpid(), since=time.time())
app = AppTest.from_file({str(APP)!r}, default_timeout=60)
for page in {PAGES!r}:
    app.switch_page(f"app_pages/{{page}}.py").run()
    assert not app.exception, page
sys.exit(" ".join(name for name in ("torch", "transformers") if name in sys.modules) or None)
"""
    environment = {
        **os.environ,
        "MNEME_RUNS": str(runs),
        "MNEME_RUN": "whole",
        "PYTHONPATH": str(APP.parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", visit], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for file in APP.parent.rglob("*.py"):
        assert not re.search(r"\bSELECT\b.*\bFROM\b|\bimport duckdb\b", file.read_text(), re.DOTALL), file
