"""What a run has finished is replaced only when asked for, and a refusal leaves everything as it was."""

from __future__ import annotations

import copy
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import mneme
from mneme._util.errors import FinishedRunError
from mneme._util.files import sha256
from mneme.config import make_config
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run


def other(settings: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(settings)
    for name, table in sections.items():
        changed[name] = {**changed.get(name, {}), **table}
    return changed


def contents(folder: Path) -> dict[str, str]:
    """Every file's hash, the lock left out."""
    return {
        str(p.relative_to(folder)): sha256(p)
        for p in folder.rglob("*")
        if p.is_file() and p.name != "run.lock"
    }


def stages(run: Run) -> dict[str, Any]:
    return dict(run.rows("SELECT stage, finished_at FROM stages"))


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def stopped_at_attribution(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.attribution.stream.attribute", stop)


@pytest.mark.parametrize(
    ("sections", "kept", "lost"),
    [
        ({"harvest": {"layer": 1}}, "", "harvest, crosscoder, attribution"),
        ({"crosscoder": {"k": 5}}, "keeps harvest and makes", "crosscoder, attribution"),
        (
            {"attribution": {"margin": 0.25}},
            "keeps harvest and crosscoder and makes",
            "attribution, interpretation",
        ),
        (
            {"effects": {"min_weight": 0.1}},
            "interpretation and labels and makes",
            "effects, findings, verdict and report again",
        ),
    ],
)
def test_other_settings_are_refused_and_nothing_is_touched(
    run: Run, settings: dict[str, Any], sections: dict[str, Any], kept: str, lost: str
) -> None:
    before = contents(run.path)
    with pytest.raises(FinishedRunError) as refused:
        run_pipeline(make_config(other(settings, **sections)), run.path)
    ((section, table),) = sections.items()
    ((key, value),) = table.items()
    line, (shown,) = str(refused.value), refused.value.__notes__
    assert f"({section}.{key})" in line and "--replace" in line and "--out" in line and "\n" not in line
    assert kept in line and lost in line
    heads, *rows = (row.split() for row in shown.splitlines())
    assert heads == ["setting", "there", "now"]
    assert [row[0] for row in rows] == [f"{section}.{key}"] and rows[0][2] == str(value)
    assert contents(run.path) == before


def test_asked_for_they_replace_what_depends_on_them(run: Run, settings: dict[str, Any]) -> None:
    before = stages(run)
    made = run_pipeline(make_config(other(settings, effects={"min_weight": 0.1})), run.path, replace=True)
    after = stages(made)
    assert {stage for stage in after if after[stage] != before[stage]} == {
        "effects",
        "findings",
        "verdict",
        "report",
    }


def test_other_inputs_are_refused(run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(settings["tuned"], tmp_path / "tuned")
    moved = {**settings, "tuned": str(tmp_path / "tuned")}
    database = sha256(run.database)
    run_pipeline(make_config(moved), run.path)  # the same files elsewhere: nothing to replace
    assert sha256(run.database) == database
    weights = tmp_path / "tuned" / "model.safetensors"
    shutil.copyfile(Path(settings["base"]) / "model.safetensors", weights)
    with pytest.raises(FinishedRunError, match="which have changed since: name another folder"):
        run_pipeline(make_config(moved), run.path)
    assert sha256(run.database) == database


def test_what_is_not_finished_yet_is_nobodys_loss(
    run: Run, settings: dict[str, Any], stopped_at_attribution: None
) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("DELETE FROM stages WHERE stage <> 'harvest'")
    harvested = stages(run)["harvest"]
    with pytest.raises(FinishedRunError):
        run_pipeline(make_config(other(settings, harvest={"layer": 1})), run.path)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(make_config(other(settings, crosscoder={"epochs": 1})), run.path)
    assert stages(run)["harvest"] == harvested and set(stages(run)) == {"harvest", "crosscoder"}


def test_a_replacement_that_was_stopped_goes_on_unasked(
    run: Run, settings: dict[str, Any], stopped_at_attribution: None
) -> None:
    changed = make_config(other(settings, attribution={"margin": 0.3}))
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(changed, run.path, replace=True)
    assert set(stages(run)) == {"harvest", "crosscoder"}
    with pytest.raises(KeyboardInterrupt):  # it goes on to where it was stopped
        run_pipeline(changed, run.path)


def test_a_run_whose_settings_cannot_be_read_is_refused(run: Run, settings: dict[str, Any]) -> None:
    (run.path / "run.toml").write_text("[crosscoder]\nof_another_version = 1\n")
    with pytest.raises(FinishedRunError, match="other settings"):
        run_pipeline(make_config(other(settings, crosscoder={"k": 5})), run.path)


def test_python_asks_too(run: Run, settings: dict[str, Any]) -> None:
    sections = {k: v for k, v in other(settings, effects={"min_weight": 0.1}).items() if isinstance(v, dict)}
    pair = settings["base"], settings["tuned"]
    with pytest.raises(FinishedRunError):
        mneme.diff(*pair, corpus=settings["corpus"], out=run.path, **sections)
    mneme.diff(*pair, corpus=settings["corpus"], out=run.path, replace=True, **sections)
    assert Run(run.path).finished("report")


def test_the_command_shows_the_difference(cli: Any, run: Run) -> None:
    words = ["run", run.path / "run.toml", "--out", run.path, "--set", "effects.min_weight=0.1"]
    code, _, err = cli(*words)
    *table, line = err.strip().splitlines()
    assert code == 2 and [row.split() for row in table] == [
        ["setting", "there", "now"],
        ["effects.min_weight", "0.05", "0.1"],
    ]
    assert line.startswith("error: ") and "--replace" in line
    code, _, err = cli(*words, "--replace")
    assert code == 0, err
    code, _, err = cli("label", run.path, "--offline", "--set", "harvest.layer=1")
    assert code == 2 and "harvest.layer" in err and "--replace" in err


@pytest.mark.parametrize("launched_here", [False, True])
def test_a_refusal_is_told_only_to_who_started_it(
    run: Run, settings: dict[str, Any], launched_here: bool
) -> None:
    status = run.path / "progress.json"
    status.write_text(
        json.dumps({"state": "running", "pid": os.getpid() if launched_here else 1, "tasks": []})
    )
    with pytest.raises(FinishedRunError):
        run_pipeline(make_config(other(settings, effects={"min_weight": 0.1})), run.path)
    assert json.loads(status.read_text())["state"] == ("refused" if launched_here else "running")
