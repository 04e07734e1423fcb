"""Migrations: what an earlier mneme wrote keeps its values under the names of now."""

from __future__ import annotations

from pathlib import Path

import duckdb

from mneme.store.run import Run
from mneme.store.schema import MIGRATIONS


def _written_before(folder: Path, migration: str) -> duckdb.DuckDBPyConnection:
    """A run's database as mneme wrote it before this migration, open to fill it."""
    names = [each.__name__ for each in MIGRATIONS]
    folder.mkdir()
    db = duckdb.connect(str(folder / "run.duckdb"))
    for each in MIGRATIONS[: names.index(migration)]:
        each(db)
    db.execute("INSERT INTO schema_version VALUES (?)", [names.index(migration)])
    return db


def test_reach_is_the_affected_share(tmp_path: Path) -> None:
    with _written_before(tmp_path / "old", "m016_affected_share") as db:
        db.execute(
            "INSERT INTO effects (category, reach, reach_low, reach_high) VALUES ('law', 0.2, 0.1, 0.3)"
        )
        db.execute("INSERT INTO nulls (kind, reach, n_reached) VALUES ('rounded', 0.04, 1)")
        db.execute("INSERT INTO health (metric, value) VALUES ('null_reach', 0.04)")
        db.execute(
            "INSERT INTO evaluation (method, metric, subset, value)"
            " VALUES ('activation_difference_reach', 'auroc', 'outside_forget', 0.9)"
        )
    run = Run(tmp_path / "old")
    shares = "affected_share, affected_share_low, affected_share_high"
    assert run.rows(f"SELECT category, {shares} FROM effects") == [("law", 0.2, 0.1, 0.3)]
    assert run.rows("SELECT affected_share, n_affected FROM nulls") == [(0.04, 1)]
    assert run.rows("SELECT metric FROM health") == [("null_affected_share",)]
    assert run.rows("SELECT method, subset, value FROM evaluation") == [
        ("activation_difference_share", "outside_intended", 0.9)
    ]
