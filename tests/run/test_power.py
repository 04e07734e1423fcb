"""`mneme power`: the positive control measured again, and a dictionary trained on what was injected."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mneme._util.errors import ConfigError, RunError
from mneme.run.power import run_power
from mneme.run.power_retrain import run_retrained
from mneme.store.run import Run


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_the_command_measures_what_the_run_measured(run: Run) -> None:
    before = run.sql("SELECT * FROM power ORDER BY category NULLS FIRST, channel")
    assert len(before) == 3 * (1 + run.rows("SELECT count(*) FROM categories")[0][0])
    rows = run.sql("SELECT * FROM health WHERE metric LIKE 'power%' ORDER BY metric")
    assert "power" in set(rows["metric"])
    with run.stage_writer() as writer:  # a run made before
        writer.connection.execute("DELETE FROM power")
        writer.connection.execute("DELETE FROM health WHERE metric LIKE 'power%'")
    run_power(run.path)
    after = run.sql("SELECT * FROM power ORDER BY category NULLS FIRST, channel")
    pd.testing.assert_frame_equal(before, after)
    pd.testing.assert_frame_equal(
        run.sql("SELECT * FROM health WHERE metric LIKE 'power%' ORDER BY metric"), rows
    )
    report = (run.path / "report" / "report.md").read_text(encoding="utf-8")
    assert "What could have been found" in report


def test_a_run_without_effects_names_what_makes_them(run: Run) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("DELETE FROM stages WHERE stage = 'effects'")
    for command in (run_power, run_retrained):
        with pytest.raises(RunError, match="has no effects"):
            command(run.path)


def test_retraining_goes_on_from_what_was_trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE effects SET n_documents = 100")
    found = run_retrained(run.path, sizes=(0.0, 8.0))
    assert found["size"].tolist()[0] == 0 and found["size"].is_monotonic_increasing
    assert np.isfinite(found[["affected_share", "cosine"]].to_numpy(float)).all()
    assert sorted(p.name for p in (run.path / "checks").iterdir()) == ["power-0-0", "power-8-0"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("mneme.crosscoder.train.train_crosscoder", never)
    monkeypatch.setattr("mneme.crosscoder.train_crosscoder", never)
    pd.testing.assert_frame_equal(run_retrained(run.path, sizes=(0.0, 8.0)), found)


def test_retraining_asks_for_text_enough(run: Run) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE effects SET n_documents = 1")
    with pytest.raises(ConfigError, match="text enough"):
        run_retrained(run.path)
