"""The page Evidence: every card has its numbers, or says that it runs or is not tested; none is blank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_pages import open_page

from mneme.testing.synthetic import make_synthetic_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run = make_synthetic_run(tmp_path / "whole", latents=60, contexts=2)
    with run.stage_writer() as writer:
        writer.clear(["power_retrained", "nulls"])
    return tmp_path


def test_what_is_not_tested_has_the_command_that_tests_it(
    monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    app = open_page(monkeypatch, runs, "evidence")
    commands = [code.value for code in app.code]
    for part in ("nulls", "power"):
        assert f"mneme evidence {runs.resolve() / 'whole'} --only {part}" in commands
    text = " ".join(each.value for each in app.markdown)
    assert "Layer 14 of 30" in text and "closes" in text  # the profile's and the patching's numbers
    assert text.count("not tested") == sum(command.startswith("mneme ") for command in commands)


def test_what_runs_says_so_and_what_could_not_be_done_says_why(
    monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    monkeypatch.setattr("mneme.store.queries.evidence_parts.living", lambda pid, program: True)
    job = {
        "state": "running",
        "pid": 1,
        "part": "power",
        "turns": ["nulls", "power"],
        "notes": {"nulls": "the models are gone"},
        "tasks": [{"name": "training", "done": 3, "total": 10, "finished_at": None}],
    }
    (runs / "whole" / "evidence.json").write_text(json.dumps(job))
    app = open_page(monkeypatch, runs, "evidence")
    text = " ".join(each.value for each in app.markdown)
    told = " ".join(each.value for each in app.caption)
    assert "running" in text and "training, 30%" in told.replace("\\", "")
    assert "the models are gone" in told
    assert not any("--only power" in code.value for code in app.code)


def test_a_run_without_a_profile_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    from mneme.store.run import Run

    with Run(runs / "whole").stage_writer() as writer:
        writer.clear(["layer_profile"])
    app = open_page(monkeypatch, runs, "evidence")
    assert f"mneme evidence {runs.resolve() / 'whole'} --only layers" in [code.value for code in app.code]
