"""The whole run: it fills the public tables, does nothing twice, and goes on where it was stopped."""

from __future__ import annotations

import copy
import json
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from damage import make_older

import mneme
from mneme._util.errors import RunError
from mneme._util.files import sha256
from mneme.config import make_config, read_config
from mneme.corpus import load_corpus
from mneme.run.pipeline import run_pipeline
from mneme.run.stages import STAGES
from mneme.store.run import Run, open_run

pytestmark = pytest.mark.bf16

FILLED = [
    "documents", "training", "latents", "betas", "contexts", "logit_lens", "neighbours", "labels",
    "categories", "latent_categories", "effects", "baselines", "health", "activation_histogram",
    "label_scores", "label_examples", "label_windows", "label_summary",
]  # fmt: skip


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """What a run says, without times."""
    return {
        name: run.sql(f"SELECT * FROM {name}").sort_values(by=keys, ignore_index=True)
        for name, keys in {
            "latents": ["latent"], "betas": ["latent", "probe", "target", "model"], "effects": ["category"],
            "labels": ["latent", "method"], "health": ["metric"],
        }.items()
    }  # fmt: skip


def assert_same(a: Run, b: Run) -> None:
    for name, frame in tables(a).items():
        pd.testing.assert_frame_equal(frame, tables(b)[name], obj=name, check_exact=True)


def test_every_stage_leaves_its_tables(whole_run: Run) -> None:
    empty = [name for name in FILLED if whole_run.rows(f"SELECT count(*) FROM {name}")[0][0] == 0]
    assert not empty
    assert whole_run.rows("SELECT stage FROM stages ORDER BY finished_at, rowid") == [
        (s.name,) for s in STAGES
    ]
    assert whole_run.info()["verdict_sentence"]
    assert (whole_run.path / "report" / "report.html").stat().st_size > 5000


def test_the_saved_settings_make_the_same_run(whole_run: Run, settings: dict[str, Any]) -> None:
    again = make_config(read_config(whole_run.path / "run.toml"))
    kept = [document.text for document in load_corpus(str(whole_run.path / again.corpus)).documents]
    assert kept == [document.text for document in load_corpus(settings["corpus"]).documents]
    assert replace(again, corpus="") == replace(make_config(settings), corpus="")


def test_every_setting_is_written_out_with_its_meaning(whole_run: Run) -> None:
    text = (whole_run.path / "run.toml").read_text()
    saved = tomllib.loads(text)
    assert saved["crosscoder"]["learning_rate"] and saved["attribution"]["margin"]
    assert "# active latents per token" in text.replace("k, ", "")


def test_the_manifest_gives_the_hash_of_each_artefact(whole_run: Run) -> None:
    manifest = json.loads((whole_run.path / "manifest.json").read_text())
    weights = whole_run.path / "crosscoder" / "model.safetensors"
    assert manifest["artefacts"]["crosscoder/model.safetensors"] == sha256(weights)
    assert set(manifest["fingerprints"]) == {"inputs", *(s.name for s in STAGES)}


def test_a_second_run_does_nothing_again(whole_run: Run, settings: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    before = (tmp_path / "run" / "run.duckdb").stat().st_mtime_ns
    run_pipeline(make_config(settings), tmp_path / "run")
    assert (tmp_path / "run" / "run.duckdb").stat().st_mtime_ns == before


def test_a_changed_setting_redoes_its_stage_and_those_after_it_only(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    changed = copy.deepcopy(settings)
    changed["effects"]["min_weight"] = 0.1
    query = "SELECT stage, finished_at, seconds FROM stages"
    before = {stage: rest for stage, *rest in whole_run.rows(query)}
    run = run_pipeline(make_config(changed), tmp_path / "run", replace=True)
    after = {stage: rest for stage, *rest in run.rows(query)}
    redone = {stage for stage in after if after[stage] != before[stage]}
    assert redone == {"effects", "findings", "verdict", "report"}
    pd.testing.assert_frame_equal(run.sql("SELECT * FROM labels"), whole_run.sql("SELECT * FROM labels"))


@pytest.mark.parametrize("stage", [s.name for s in STAGES])
def test_a_run_that_failed_in_a_stage_goes_on_and_ends_the_same(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path, stage: str
) -> None:
    # Everything before the stage is done, its tables and those after it are not.
    shutil.copytree(whole_run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    later = [s for s in STAGES if STAGES.index(s) >= [s.name for s in STAGES].index(stage)]
    with run.stage_writer() as writer:
        for each in later:
            writer.connection.execute("DELETE FROM stages WHERE stage = ?", [each.name])
    assert_same(run_pipeline(make_config(settings), run.path), whole_run)


_UNTIL_KILLED = """
import json, sys, torch
from mneme.config import make_config
from mneme.crosscoder import trainer
from mneme.run.pipeline import run_pipeline
from mneme.store.run import StageWriter

place, name, times = {
    "training after a checkpoint": (trainer, "write_checkpoint", 3),
    "the tables before they are committed": (StageWriter, "append", 6),
}[sys.argv[3]]
original, calls = getattr(place, name), []

def stopping(*args, **kwargs):
    result = original(*args, **kwargs)
    calls.append(name)
    if len(calls) == times:
        print("there", flush=True)
        sys.stdin.read()  # until it is killed
    return result

setattr(place, name, stopping)
torch.set_num_threads(1)
run_pipeline(make_config(json.load(open(sys.argv[1]))), sys.argv[2])
"""


@pytest.mark.parametrize(
    "where",
    ["training after a checkpoint", "the tables before they are committed"],
)
def test_kill_9_and_the_same_command_end_in_the_same_run(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path, where: str
) -> None:
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-c", _UNTIL_KILLED, tmp_path / "settings.json", tmp_path / "run", where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    run = run_pipeline(make_config(json.loads((tmp_path / "settings.json").read_text())), tmp_path / "run")
    assert_same(run, whole_run)


def test_ctrl_c_leaves_word_of_it(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.run.pipeline.preflight", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(make_config(settings), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "progress.json").read_text())["state"] == "cancelled"


def test_the_python_interface_is_the_same_run(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    sections = {k: v for k, v in settings.items() if isinstance(v, dict)}
    run = mneme.diff(
        settings["base"], settings["tuned"], corpus=settings["corpus"], out=tmp_path / "run", **sections
    )
    assert len(run.latents()) == 48 and "label" in run.latents()
    assert {"effect", "verdict", "outcome_change"} <= set(run.effects())
    strongest = int(run.latents().sort_values("n_active").latent.iloc[-1])
    contexts = mneme.open_run(tmp_path / "run").contexts(strongest)
    assert len(contexts) and contexts["quantile"].iloc[0] == 0


def test_a_trained_crosscoder_can_be_imported(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = make_config({**settings, "load_crosscoder": str(whole_run.path / "crosscoder")})
    run = run_pipeline(config, tmp_path / "run")
    assert run.rows("SELECT count(*) FROM training") == [(0,)]
    pd.testing.assert_frame_equal(
        run.sql("SELECT latent, beta_base, beta_tuned FROM latents ORDER BY latent"),
        whole_run.sql("SELECT latent, beta_base, beta_tuned FROM latents ORDER BY latent"),
    )


def test_labels_are_made_again_from_what_an_earlier_version_left(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:  # as it was before labels were a stage of their own
        writer.connection.execute("DELETE FROM stages WHERE stage = 'labels'")
        writer.connection.execute("UPDATE stages SET fingerprint = 'old' WHERE stage <> 'report'")
    make_older(run)  # the attribution stays, so its intervals do
    old = {k: v for k, v in settings.items() if k != "labels"}
    old["interpret"] = {**settings["interpret"], **settings["labels"]}
    assert "labels" in {stage for (stage,) in open_run(run.path).rows("SELECT stage FROM stages")}
    made = run_pipeline(make_config(old), run.path, first="labels")
    assert_same(made, whole_run)
    again = dict(made.rows("SELECT stage, fingerprint FROM stages"))
    assert again["interpretation"] == "old" != again["labels"]


def test_labels_of_a_run_without_contexts_name_what_makes_them(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    with Run(tmp_path / "run").stage_writer() as writer:
        writer.connection.execute("DELETE FROM stages WHERE stage = 'interpretation'")
    with pytest.raises(RunError, match=r"lacks the stage interpretation: `mneme run"):
        run_pipeline(make_config(settings), tmp_path / "run", first="labels")
