"""Whole tables of a run for CSV and Parquet, with what belongs to each row."""

from __future__ import annotations

import pyarrow as pa

from mneme.report.analyst import with_reviews
from mneme.store.queries.labels import BEST_LABEL
from mneme.store.run import Run

_EXPORTS = {
    "latents": "SELECT l.*, b.label, b.method AS label_method, b.score AS label_score FROM latents l"
    f" LEFT JOIN {BEST_LABEL} b USING (latent) ORDER BY latent",
    "effects": "SELECT e.*, c.name, c.grp FROM effects e LEFT JOIN categories c USING (category)"
    " ORDER BY effect DESC NULLS LAST, category",
    "outcomes": "SELECT * FROM outcomes ORDER BY category",
    "causal": "SELECT * FROM causal ORDER BY latent NULLS FIRST, patch DESC, source",
    "power": "SELECT * FROM power ORDER BY category NULLS FIRST, channel",
    "evaluation": "SELECT * FROM evaluation ORDER BY subset, metric, method",
}
EXPORTS = tuple(_EXPORTS)
"""Tables that `export_table` gives."""


def export_table(run: Run, name: str) -> pa.Table:
    """A whole table, for CSV and Parquet; latents have their label and review, effects their category's name."""
    rows = run.sql(_EXPORTS[name])
    return pa.Table.from_pandas(
        with_reviews(rows, run.path) if name == "latents" else rows, preserve_index=False
    )
