"""Whole tables of a run for CSV and Parquet, with what belongs to each row."""

from __future__ import annotations

import pyarrow as pa

from mneme.report.analyst import with_reviews
from mneme.store.queries.report import EXPORTS, whole_table
from mneme.store.run import Run

__all__ = ["EXPORTS", "export_table"]


def export_table(run: Run, name: str) -> pa.Table:
    """A whole table, for CSV and Parquet; latents have their label and review, effects their category's name."""
    rows = whole_table(run, name)
    return pa.Table.from_pandas(
        with_reviews(rows, run.path) if name == "latents" else rows, preserve_index=False
    )
