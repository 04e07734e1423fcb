"""Each file of a finished run damaged, each command that reads it asked: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from damage import cut, flip
from test_pipeline import assert_same

from mneme._util.errors import CorruptRunError, RunError
from mneme._util.files import sha256
from mneme._util.progress import NULL_PROGRESS
from mneme.config import make_config, read_config
from mneme.run.finished import finished_context, kept_crosscoder
from mneme.run.nulls import run_nulls
from mneme.run.outcomes import give_outcomes
from mneme.run.pipeline import run_pipeline
from mneme.store.manifest import read_manifest
from mneme.store.run import Run, open_run

TOML = "{run}/run.toml"
RUN = ("run", TOML, "--out", "{run}")
STAGES_AND_CHECKS = {
    "run": RUN,
    "run --replace": (*RUN, "--replace", "--set", "attribution.margin=0.25"),
    "label": ("label", "{run}", "--offline"),
    "measure": ("measure", "{run}", "--benchmark", "{run}/none.jsonl"),
    "evaluate": ("evaluate", "{run}"),
    "null": ("null", "{run}"),
    "stability": ("stability", "{run}", "--seeds", "1"),
    "causal": ("causal", "{run}", "--latents", "1"),
    "power": ("power", "{run}"),
    "probe": ("probe", "{run}", "--text", "the cat"),
    "compare": ("compare", "{run}", "{other}"),
    "compare to": ("compare", "{other}", "{run}"),
    "report": ("report", "{run}"),
    "info": ("info", "{run}"),
    "dashboard": ("dashboard", "{run}"),
}
OF_CROSSCODER = set(STAGES_AND_CHECKS) - {"report", "info", "dashboard"}
OF_SHARDS = OF_CROSSCODER - {"probe", "compare", "compare to"}
READ_BY = {
    "crosscoder/model.safetensors": OF_CROSSCODER,
    "crosscoder/config.json": OF_CROSSCODER,
    "activations/index.json": OF_CROSSCODER - {"compare", "compare to"},
    "activations/00001.safetensors": OF_SHARDS,
    "codes/00000.safetensors": {"run", "label", "measure", "power"},
    "codes/index.json": {"run", "label", "measure", "power"},
    "run.duckdb": set(STAGES_AND_CHECKS),
}
"""`run --replace` begins at the stage that makes the codes."""


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def contents(run: Run) -> dict[str, bytes]:
    left_out = {"progress.json", "run.lock"}
    return {
        str(file.relative_to(run.path)): file.read_bytes()
        for file in run.path.rglob("*")
        if file.is_file() and file.name not in left_out
    }


def ask(cli: Any, words: tuple[str, ...], run: Run, other: Run) -> str:
    """What a command that must fail says."""
    code, _, error = cli(*(word.format(run=run.path, other=other.path) for word in words))
    assert code == 2, (words, code, error)
    assert error.startswith("error: ") and "\n" not in error.strip() and "Traceback" not in error, error
    return str(error)


# What DuckDB doesn't read is no damage: tests/store/test_database.py flips every block of run.duckdb.
@pytest.mark.parametrize(
    ("name", "damage"),
    [(name, damage) for name in READ_BY for damage in (flip, cut) if (name, damage) != ("run.duckdb", flip)],
)
def test_a_damaged_file_is_named_by_every_command_that_reads_it(
    run: Run, whole_run: Run, cli: Any, name: str, damage: Any
) -> None:
    damage(run.path / name)
    before = contents(run)
    for command in sorted(READ_BY[name]):
        said = ask(cli, STAGES_AND_CHECKS[command], run, whole_run)
        assert str(run.path / name) in said and "damaged" in said, (command, said)
        assert ("delete it" in said) == (name != "run.duckdb"), (command, said)
        assert contents(run) == before, command


@pytest.mark.parametrize("name", ["crosscoder/model.safetensors", "activations/00000.safetensors"])
def test_a_missing_file_is_named_by_the_checks(run: Run, cli: Any, whole_run: Run, name: str) -> None:
    (run.path / name).unlink()
    for command in ("null", "stability", "causal", "evaluate", "measure"):
        said = ask(cli, STAGES_AND_CHECKS[command], run, whole_run)
        assert str(run.path / name) in said and "mneme run" in said, (command, said)


@pytest.mark.parametrize("name", ["activations/00001.safetensors", "codes/00000.safetensors"])
def test_what_the_message_advises_makes_the_same_run_again(
    run: Run, whole_run: Run, settings: dict[str, Any], name: str
) -> None:
    flip(run.path / name)
    with pytest.raises(CorruptRunError, match="delete it"):
        run_pipeline(make_config(settings), run.path)
    (run.path / name).unlink()
    assert_same(run_pipeline(make_config(settings), run.path), whole_run)
    assert sha256(run.path / name) == sha256(whole_run.path / name)


def test_settings_that_changed_are_named_by_the_checks_and_moved_models_are_not(
    run: Run, whole_run: Run, cli: Any, pair_folder: Path, tmp_path: Path
) -> None:
    file = run.path / "run.toml"
    text = file.read_text()
    file.write_text(text.replace("margin = 0.2", "margin = 0.25"))
    assert file.read_text() != text
    for command in ("null", "stability", "causal", "evaluate", "measure", "probe"):
        said = ask(cli, STAGES_AND_CHECKS[command], run, whole_run)
        assert "attribution.margin = 0.25" in said and "mneme run" in said, said
    shutil.copytree(pair_folder / "tuned", tmp_path / "moved")
    file.write_text(text.replace(str(pair_folder / "tuned"), str(tmp_path / "moved")))
    code, _, error = cli("probe", run.path, "--text", "the cat")
    assert code == 0, error


def test_a_run_made_before_files_were_sealed_is_checked_by_its_manifest(
    run: Run, settings: dict[str, Any]
) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("DELETE FROM artefacts")
    assert run_pipeline(make_config(settings), run.path).finished("report")
    flip(run.path / "crosscoder" / "model.safetensors")
    with pytest.raises(CorruptRunError, match=r"model\.safetensors is damaged"):
        run_nulls(run.path)


def test_a_kept_dictionary_that_is_damaged_is_trained_again(run: Run) -> None:
    context, _ = finished_context(run.path, NULL_PROGRESS)
    config = replace(context.config.crosscoder, seed=1, epochs=1)
    kept_crosscoder(context, "seeds/1", config, context.cache)
    kept = run.path / "seeds" / "1" / "model.safetensors"
    whole, made = kept.read_bytes(), kept.stat().st_mtime_ns
    kept_crosscoder(context, "seeds/1", config, context.cache)
    assert kept.stat().st_mtime_ns == made
    flip(kept)
    kept_crosscoder(context, "seeds/1", config, context.cache)
    assert kept.read_bytes() == whole


# manifest.json


def assert_true(run: Run) -> None:
    """manifest.json names every file of the run by the hash it has, and the stages as the tables have them."""
    manifest = json.loads((run.path / "manifest.json").read_text())
    not_artefacts = {"manifest.json", "progress.json", "run.lock"}
    there = {
        file.relative_to(run.path).as_posix(): sha256(file)
        for file in run.path.rglob("*")
        if file.is_file()
        and file.name not in not_artefacts
        and not file.relative_to(run.path).parts[0].startswith("search")
    }
    assert manifest["artefacts"] == there
    found = dict(open_run(run.path).rows("SELECT stage, fingerprint FROM stages"))
    assert manifest["fingerprints"] == {**found, "inputs": open_run(run.path).info()["inputs"]}
    assert manifest["corpus"] and manifest["prompts"] and manifest["versions"]["torch"]


def outcomes(run: Run) -> pd.DataFrame:
    keys = run.effects()["category"]
    frame = pd.DataFrame({"category": keys, "base": 1.0, "tuned": [1 + i / 10 for i in range(len(keys))]})
    others = ("ci_low", "ci_high", "accuracy_base", "accuracy_tuned", "accuracy_low", "accuracy_high")
    frame = frame.assign(change=frame.tuned - frame.base, answer_base=None, answer_tuned=None, n=5)
    named = {"source": "test", "unit": "nats", "kind": "nll", "benchmark": "test"}
    return frame.assign(**dict.fromkeys(others, None), **named)


def test_the_manifest_is_true_after_every_command(run: Run, cli: Any) -> None:
    assert_true(run)
    latent = run.rows("SELECT latent FROM contexts WHERE quantile = 0 LIMIT 1")[0][0]
    commands: list[tuple[object, ...]] = [
        ("null", run.path),
        ("power", run.path),
        ("stability", run.path, "--seeds", 1),
        ("causal", run.path, "--latents", latent, "--contexts", 2, "--tokens", 0),
        ("label", run.path, "--offline"),
        ("report", run.path),
        ("probe", run.path, "--text", "the cat"),
    ]
    for words in commands:
        code, _, error = cli(*words)
        assert code == 0, (words, error)
        shutil.rmtree(run.path / "probe", ignore_errors=True)
        assert_true(run)
    give_outcomes(run.path, outcomes(run))
    assert_true(run)
    code, _, error = cli("evaluate", run.path, "--no-difference-sae")
    assert code == 0, error
    assert_true(run)


def test_a_check_that_is_interrupted_leaves_a_true_manifest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.run.nulls.tell_findings", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_nulls(run.path)
    assert len(run.sql("SELECT * FROM nulls")) == 2
    assert_true(run)


@pytest.mark.parametrize("left", ["old", "cut", "none"])
def test_a_manifest_that_a_kill_left_behind_is_repaired(
    run: Run, settings: dict[str, Any], left: str
) -> None:
    file = run.path / "manifest.json"
    true = read_manifest(run.path)
    if left == "old":
        old = {**true, "fingerprints": {"inputs": "x"}, "artefacts": {"run.duckdb": "0" * 64}}
        file.write_text(json.dumps(old))
    elif left == "cut":
        cut(file)
    else:
        file.unlink()
    run_pipeline(make_config(settings), run.path)
    assert_true(run)
    assert read_manifest(run.path) == true


# outcomes that nobody measured


def test_a_report_is_not_written_where_its_tables_would_count_as_outcomes(
    run: Run, cli: Any, pair_folder: Path
) -> None:
    for folder in (run.path, pair_folder / "tuned"):
        code, _, error = cli("report", run.path, "--out", folder)
        assert code == 2 and "own folder" in error and "\n" not in error.strip()
        assert not (folder / "outcomes.csv").exists()


def test_a_table_without_rows_is_no_outcomes(run: Run, settings: dict[str, Any]) -> None:
    shutil.copy(run.path / "report" / "outcomes.csv", run.path / "outcomes.csv")
    done = run.rows("SELECT stage, finished_at FROM stages")
    again = run_pipeline(make_config(read_config(run.path / "run.toml")), run.path)
    assert again.rows("SELECT stage, finished_at FROM stages") == done
    assert again.rows("SELECT count(*) FROM outcomes") == [(0,)]
    with pytest.raises(RunError):
        Run(run.path / "report").info()
