"""Which of a latent's labels stands for it, and whether it is to be trusted: the same everywhere."""

from __future__ import annotations

import duckdb
import pandas as pd

UNRELIABLE = "coalesce(coalesce(gain_low, score - score_shuffled) <= 0, false)"
"""On held-out contexts the label isn't shown to do better than other latents' labels: the 95% interval of the gain
reaches 0."""

ORDER = "coalesce(score, 0) + (method <> 'offline')::INT"
"""The largest is the best: a language model's before the offline ones, then by score."""

BEST_LABEL_WHOLE = (
    f"(SELECT *, {UNRELIABLE} AS unreliable FROM labels"
    f" QUALIFY row_number() OVER (PARTITION BY latent ORDER BY {ORDER} DESC, method) = 1)"
)
"""A table: the columns of `labels` and `unreliable`, a row a labelled latent."""

BEST_LABEL = "memory.main.best_labels"
MAIN_CATEGORY = "memory.main.main_categories"
PRECOMPUTED = (
    f"CREATE TABLE {BEST_LABEL} AS SELECT * EXCLUDE (detail) FROM {BEST_LABEL_WHOLE} ORDER BY latent",
    f"CREATE TABLE {MAIN_CATEGORY} AS SELECT latent, arg_max(category, weight) AS category, max(weight) AS weight"
    " FROM latent_categories GROUP BY latent ORDER BY latent",
)
"""What every page asks for, made once when a run is opened, in memory beside it: to choose among the labels of
131,072 latents takes longer than all the rest of a query."""


def unreliable(labels: pd.DataFrame) -> pd.Series:
    """UNRELIABLE of each row of a frame that is no table yet: columns score, score_shuffled, gain_low."""
    numbers = labels[["score", "score_shuffled", "gain_low"]].astype("float64")
    with duckdb.connect() as db:
        db.register("numbers", numbers.reset_index(drop=True))
        found = db.execute(f"SELECT {UNRELIABLE} AS unreliable FROM numbers").df()["unreliable"]
    return found.set_axis(labels.index)
