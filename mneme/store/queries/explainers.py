"""Explainers compared: `mneme label RUN --compare A,B,offline`."""

from __future__ import annotations

from typing import Any

from mneme.store.run import Run


def method_rows(run: Run) -> list[dict[str, Any]]:
    """An explainer each, in the order asked for: the columns of `label_comparison`, NULL as None; [] without."""
    return [row for (row,) in run.rows("SELECT c FROM label_comparison c ORDER BY rowid")]


def pair_rows(run: Run) -> list[dict[str, Any]]:
    """A pair of explainers each: method, other, n, cosine, same_category (None where no latent has both)."""
    return [row for (row,) in run.rows("SELECT c FROM label_agreement c ORDER BY rowid")]


def failures(run: Run) -> list[tuple[str, str, int]]:
    """Labels that were asked of a model and did not come: method, reason, latents; the most frequent first."""
    return run.rows("SELECT method, reason, count(*) FROM label_failures GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2")
