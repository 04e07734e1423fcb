"""Categories: what was predicted, what was measured, and how good the prediction is."""

from __future__ import annotations

import tomllib

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL
from mneme.store.queries.outcomes import PRIMARY_OUTCOMES
from mneme.store.run import Run
from mneme.verdict.calls import with_calls

_DEFAULT_MARGIN = 0.05  # nats; what effects.nll_margin is unless a run sets it


def nll_margin(run: Run) -> float:
    """Nats a token from which a measured change counts: the run's own setting, as the evaluation uses it."""
    try:
        settings = tomllib.loads((run.path / "run.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _DEFAULT_MARGIN
    found = settings.get("effects", {}).get("nll_margin")
    return float(found) if isinstance(found, int | float) else _DEFAULT_MARGIN


def effects(run: Run) -> pd.DataFrame:
    """A row a category, the largest effect first, with its outcome (`measured`) and whether the verdict holds (`call`).

    The words are those of mneme/_util/vocabulary.py.
    """
    table = run.sql(
        "SELECT e.*, coalesce(k.name, e.category) AS name, k.grp, k.domain,"
        " o.base AS outcome_base, o.tuned AS outcome_tuned, o.change, o.ci_low AS change_low,"
        " o.ci_high AS change_high, o.accuracy_base, o.accuracy_tuned, o.n AS n_items, o.source,"
        " o.unit AS outcome_unit, o.kind AS outcome_kind, coalesce(o.proven, true) AS proven"
        f" FROM effects e LEFT JOIN categories k USING (category) LEFT JOIN {PRIMARY_OUTCOMES} o USING (category)"
        " ORDER BY effect DESC NULLS LAST, category"
    )
    return with_calls(table, nll_margin(run))


def baselines(run: Run) -> pd.DataFrame:
    """A row a category, a column a baseline method."""
    found = run.sql("SELECT category, method, value FROM baselines")
    if found.empty:
        return found
    return found.pivot_table(index="category", columns="method", values="value").reset_index()


def evaluation(run: Run) -> pd.DataFrame:
    """method, metric, subset, value, ci_low, ci_high, n."""
    return run.sql("SELECT * FROM evaluation ORDER BY subset, metric, method = 'crosscoder' DESC, value DESC")


def top_latents(run: Run, category: str, limit: int = 12) -> pd.DataFrame:
    """The latents that make up a category's effect, the largest part first."""
    return run.sql(
        "SELECT t.latent, t.contribution, l.verdict, b.label, b.unreliable, l.log_ratio, l.q_value,"
        " l.firing_rate, l.nll_change FROM effect_latents t LEFT JOIN latents l USING (latent)"
        f" LEFT JOIN {BEST_LABEL} b USING (latent) WHERE t.category = ?"
        " ORDER BY t.rank, t.contribution DESC LIMIT ?",
        [category, limit],
    )


def groups(run: Run) -> pd.DataFrame:
    """What each group of latents adds to each category's effect: category, grp, contribution."""
    return run.sql("SELECT category, grp, contribution FROM effect_groups ORDER BY category, grp")


def category_names(run: Run) -> dict[str, str]:
    """Key -> name, of the categories that have latents; sorted by name."""
    return dict(
        run.rows(
            "SELECT category, coalesce(name, category) FROM (SELECT DISTINCT category FROM latent_categories)"
            " LEFT JOIN categories USING (category) ORDER BY 2, 1"
        )
    )
