"""How labels were judged."""

from __future__ import annotations

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL
from mneme.store.run import Run


def scores_of(run: Run, latent: int) -> pd.DataFrame:
    """What its labels get, a row a test: the columns of `label_scores`."""
    return run.sql(
        "SELECT * FROM label_scores WHERE latent = ?"
        " ORDER BY method <> 'offline' DESC, method, scorer, test, negatives = 'random' DESC",
        [latent],
    )


def examples_of(run: Run, latent: int, limit: int = 200) -> pd.DataFrame:
    """Windows its labels were judged on: method, scorer, test, negatives, positive, judged, fit, marked, document,
    position, text."""
    return run.sql(
        "SELECT e.method, e.scorer, e.test, e.negatives, e.positive, e.judged, e.fit, e.marked, w.document,"
        ' w.position, w.text FROM label_examples e LEFT JOIN label_windows w USING ("window")'
        " WHERE e.latent = ? ORDER BY e.method, e.scorer, e.test, e.negatives = 'random' DESC, e.positive DESC,"
        ' e.fit DESC NULLS LAST, "window" LIMIT ?',
        [latent, limit],
    )


def score_summary(run: Run) -> pd.DataFrame:
    """Means over latents: the columns of `label_summary`, own labels before the baselines."""
    return run.sql(
        "SELECT * FROM label_summary ORDER BY method <> 'offline', method, scorer, test, negatives = 'random' DESC,"
        " list_position(['own', 'shuffled', 'random latent'], labels)"
    )


def unreliable_share(run: Run) -> float | None:
    """Of latents whose label is scored, the share whose label isn't shown to beat other labels; None without any."""
    found = run.rows(f"SELECT avg(unreliable::INT) FROM {BEST_LABEL} WHERE score IS NOT NULL")
    out: float | None = found[0][0]
    return out
