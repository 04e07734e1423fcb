"""Checks of a finished run: null pairs and other seeds, written where the pages read them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mneme._util.errors import ConfigError, RunError
from mneme.run.nulls import run_nulls
from mneme.run.seeds import seed_dictionaries
from mneme.run.stability import run_stability
from mneme.store.run import Run


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_nulls_are_measured_and_kept(run: Run, whole_run: Run) -> None:
    table, margin, min_affected_share = run_nulls(run.path, benign=[whole_run.path])
    assert len(table) == 3 and table["kind"].iloc[2] == f"benign: {whole_run.path.name}"
    saved = run.sql("SELECT * FROM nulls")
    assert saved["kind"].tolist() == table["kind"].tolist()
    assert (saved["rate"] == saved["n_false"] / saved["n"]).all()
    assert ((saved["ci_low"] <= saved["rate"]) & (saved["rate"] <= saved["ci_high"])).all()
    # The same pair as itself rounded: nothing may be called changed.
    assert saved["n_false"].iloc[0] == 0
    assert margin >= 0.2
    asked = run.rows("SELECT value, status FROM health WHERE metric = 'null_margin'")
    assert asked == [(margin, "ok" if margin == 0.2 else "warn")]
    assert saved["affected_share"].isna().tolist() == [
        False,
        True,
        False,
    ]  # the shuffled one has no dictionary of its own
    assert saved["n_affected"].iloc[0] == 0 == saved["affected_share"].iloc[0]
    asked = run.rows("SELECT value FROM health WHERE metric = 'null_affected_share'")
    assert asked == [(min_affected_share,)] and min_affected_share == max(
        0.125, saved["affected_share"].max()
    )


def test_the_report_and_the_sentence_are_brought_up_to_date(run: Run) -> None:
    report = run.path / "report" / "report.md"
    assert "base against itself" not in report.read_text(encoding="utf-8")
    with run.stage_writer() as writer:
        writer.set_info(verdict_sentence="before")
    run_nulls(run.path)
    assert "base against itself" in report.read_text(encoding="utf-8")
    assert run.info()["verdict_sentence"].endswith(".")


def test_the_null_dictionary_is_not_trained_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_nulls(run.path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("mneme.crosscoder.train.train_crosscoder", never)
    monkeypatch.setattr("mneme.crosscoder.train_crosscoder", never)
    second = run_nulls(run.path)
    assert first.table.equals(second.table)


def test_stability_is_written_for_live_latents(run: Run) -> None:
    shares = run_stability(run.path, seeds=2)
    assert [path.relative_to(run.path).as_posix() for path in seed_dictionaries(run)] == [
        "seeds/1",
        "seeds/2",
    ]
    latents = run.latents()
    live = latents["verdict"] != "dead"
    assert latents.loc[live, "stability"].isin([0.0, 0.5, 1.0]).all()
    assert latents.loc[~live, "stability"].isna().all()
    assert shares["latents"] == pytest.approx(latents.loc[live, "stability"].mean())
    assert np.isfinite(shares["pw_mcc"])
    assert 0 <= shares["categories"] <= 1
    assert run.rows("SELECT value FROM health WHERE metric = 'category_persistence'") == [
        (shares["categories"],)
    ]
    assert run.rows("SELECT count(*) FROM health WHERE metric = 'seed_persistence'") == [(1,)]


def test_only_whole_dictionaries_of_this_run_are_other_seeds(run: Run) -> None:
    assert seed_dictionaries(run) == []
    run_stability(run.path, seeds=2)
    note, weights = (run.path / "seeds" / file for file in ("1/made_from.txt", "2/model.safetensors"))
    note.write_text("other text")
    assert [path.name for path in seed_dictionaries(run)] == ["2"]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    shutil.copytree(run.path / "seeds" / "1", run.path / "seeds" / "0")
    (run.path / "seeds" / "3").mkdir()
    assert seed_dictionaries(run) == []


def test_what_cannot_be_checked_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        run_stability(run.path, seeds=0)
    shutil.rmtree(run.path / "activations")
    with pytest.raises(RunError, match="is not finished"):
        run_nulls(run.path)
    with pytest.raises(RunError, match="is not a run"):
        run_nulls(tmp_path / "nowhere")
