"""What the report shows of a run, and its tables for export."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL, BEST_LABEL_WHOLE
from mneme.store.queries.outcomes import PRIMARY_OUTCOMES
from mneme.store.queries.words import changed
from mneme.store.run import Run

_EXPORTS = {
    "latents": "SELECT l.*, b.label, b.method AS label_method, b.score AS label_score FROM latents l"
    f" LEFT JOIN {BEST_LABEL} b USING (latent) ORDER BY latent",
    "effects": "SELECT e.*, c.name, c.grp FROM effects e LEFT JOIN categories c USING (category)"
    " ORDER BY effect DESC NULLS LAST, category",
    "findings": 'SELECT * EXCLUDE (profile, name_detail) FROM findings ORDER BY parent IS NOT NULL, parent, "rank"',
    "outcomes": "SELECT * FROM outcomes ORDER BY category",
    "causal": "SELECT * FROM causal ORDER BY latent NULLS FIRST, patch DESC, source",
    "power": "SELECT * FROM power ORDER BY category NULLS FIRST, channel",
    "evaluation": "SELECT * FROM evaluation ORDER BY subset, metric, method",
}
EXPORTS = tuple(_EXPORTS)
"""Tables that `whole_table` gives."""


def whole_table(run: Run, name: str) -> pd.DataFrame:
    """One of EXPORTS in full; latents have their label, effects their category's name."""
    return run.sql(_EXPORTS[name])


def verdict_counts(run: Run) -> list[tuple[Any, ...]]:
    """(verdict, latents), changed ones first."""
    order = "['amplified', 'suppressed', 'redirected', 'uncertain', 'unchanged', 'dead']"
    return run.rows(
        "SELECT verdict, count(*) FROM latents WHERE verdict IS NOT NULL GROUP BY verdict"
        f" ORDER BY list_position({order}, verdict)"
    )


def effects_with_outcomes(run: Run) -> pd.DataFrame:
    """Every category's prediction beside its measured outcome, the largest effect first."""
    return run.sql(
        "SELECT e.*, coalesce(k.name, e.category) AS name, k.grp, o.change, o.ci_low AS change_low,"
        " o.ci_high AS change_high, o.accuracy_base, o.accuracy_tuned, o.n AS n_items, o.source, o.unit,"
        " o.kind, coalesce(o.proven, true) AS proven"
        f" FROM effects e LEFT JOIN categories k USING (category) LEFT JOIN {PRIMARY_OUTCOMES} o USING (category)"
        " ORDER BY effect DESC NULLS LAST, category"
    )


def most_severe(run: Run, limit: int, also: list[int]) -> pd.DataFrame:
    """The most severe latents of each kind of change, and those of `also`."""
    return run.sql(
        f"WITH kinds AS (SELECT *, CASE WHEN {changed('verdict')} THEN verdict END AS kind FROM latents)"
        " SELECT *, row_number() OVER (PARTITION BY kind ORDER BY severity DESC NULLS LAST, latent) AS place"
        " FROM kinds WHERE kind IS NOT NULL OR list_contains($also, latent)"
        " QUALIFY place <= $limit OR list_contains($also, latent)"
        " ORDER BY list_position(['amplified', 'suppressed', 'redirected'], kind), place",
        {"limit": limit, "also": also},
    )


def labels_of(run: Run, latents: list[int]) -> pd.DataFrame:
    """The label that stands for each of these latents, with its score and whether it is to be trusted."""
    return run.sql(f"SELECT * FROM {BEST_LABEL_WHOLE} WHERE list_contains(?, latent)", [latents])


def categories_of(run: Run, latents: list[int], most: int) -> list[tuple[Any, ...]]:
    """(latent, category's name), the `most` heaviest of each latent."""
    return run.rows(
        "SELECT l.latent, coalesce(c.name, l.category) FROM latent_categories l LEFT JOIN categories c"
        " USING (category) WHERE list_contains(?, l.latent) QUALIFY row_number() OVER"
        " (PARTITION BY l.latent ORDER BY l.weight DESC) <= ? ORDER BY l.latent, l.weight DESC",
        [latents, most],
    )


def contexts_of(run: Run, latents: list[int], most: int) -> list[tuple[Any, ...]]:
    """(latent, document, position, topic, tokens, activations), the `most` strongest of each latent."""
    return run.rows(
        "SELECT c.latent, c.document, c.position, d.topic, c.tokens, c.activations FROM contexts c"
        " LEFT JOIN documents d USING (document) WHERE list_contains(?, c.latent) AND c.quantile = 0"
        " QUALIFY row_number() OVER (PARTITION BY c.latent ORDER BY c.rank, c.document) <= ?"
        " ORDER BY c.latent, c.rank",
        [latents, most],
    )


def health_rows(run: Run) -> list[tuple[Any, ...]]:
    """(metric, title, value, unit, threshold, status, advice), the worst status first."""
    return run.rows(
        "SELECT metric, title, value, unit, threshold, status, advice FROM health"
        " ORDER BY list_position(['fail', 'warn', 'ok', 'info'], status) NULLS LAST, metric"
    )


def null_rows(run: Run) -> list[tuple[Any, ...]]:
    """(kind, n, n_false, rate, ci_low, ci_high, margin, n_categories, n_affected) of each null pair."""
    return run.rows(
        "SELECT kind, n, n_false, rate, ci_low, ci_high, margin, n_categories, n_affected FROM nulls ORDER BY kind"
    )


def evaluation_rows(run: Run) -> list[tuple[Any, ...]]:
    """(method, metric, subset, value, ci_low, ci_high, n), by subset and metric, the crosscoder first."""
    return run.rows(
        "SELECT method, metric, subset, value, ci_low, ci_high, n FROM evaluation"
        " ORDER BY subset, metric, method <> 'crosscoder', value DESC NULLS LAST"
    )


def delta_norm_bins(run: Run, bins: int) -> dict[int, int]:
    """Bar (of `bins` from 0 to 1) -> live latents with such a delta_norm."""
    rows = run.rows(
        "SELECT least(greatest(floor(delta_norm * ?), 0), ? - 1)::INT, count(*) FROM latents"
        " WHERE NOT coalesce(dead, false) AND isfinite(delta_norm) GROUP BY 1",
        [bins, bins],
    )
    return {int(bar): int(n) for bar, n in rows}


def beta_points(run: Run, most: int) -> list[tuple[Any, ...]]:
    """(latent, beta_base, beta_tuned, verdict) of live latents: a fixed sample, twice as many of the changed ones."""
    return run.rows(
        "WITH live AS (SELECT latent, beta_base, beta_tuned, verdict,"
        f" {changed('verdict')} AS moved"
        " FROM latents WHERE isfinite(beta_base) AND isfinite(beta_tuned) AND verdict <> 'dead')"
        " SELECT latent, beta_base, beta_tuned, verdict FROM live"
        " QUALIFY row_number() OVER (PARTITION BY moved ORDER BY hash(latent)) <= if(moved, 2, 1) * ?"
        " ORDER BY latent",
        [most],
    )
