"""Measured outcomes: those that predictions are held against, and all, by kind."""

from __future__ import annotations

import pandas as pd

from mneme.effects.outcome_kinds import CHANCE_LEVEL, KINDS
from mneme.store.run import Run
from mneme.verdict.calls import with_calls

_ORDER = ", ".join(f"'{kind}'" for kind in KINDS)
_PROVEN = f"(kind <> 'capability' OR coalesce(chance_q <= {CHANCE_LEVEL}, false)) AS proven"
PRIMARY_OUTCOMES = (
    f"(SELECT *, {_PROVEN} FROM outcomes"
    f" WHERE kind = (SELECT kind FROM outcomes ORDER BY list_position([{_ORDER}], kind) LIMIT 1)"
    f" AND coalesce(chance_q <= {CHANCE_LEVEL}, true)"
    " QUALIFY row_number() OVER (PARTITION BY category ORDER BY n DESC NULLS LAST, benchmark) = 1)"
)
"""A subquery, a row a category: as `outcome_kinds.primary`. proven: false of a capability of unknown chance level."""


def capabilities(run: Run, margin: float) -> pd.DataFrame:
    """A row a category and benchmark of kind capability, the largest loss first.

    Columns of table `outcomes` as they are, with name, grp, verdict, change_low, change_high, proven, at_chance (the
    base does no better than guessing: nothing is measured), measured and call.
    """
    rows = run.sql(
        "SELECT o.*, o.ci_low AS change_low, o.ci_high AS change_high, coalesce(k.name, o.category) AS name, k.grp,"
        f" coalesce(o.chance_q > {CHANCE_LEVEL}, false) AS at_chance, e.verdict"
        f" FROM (SELECT *, {_PROVEN} FROM outcomes WHERE kind = 'capability') o"
        " LEFT JOIN categories k USING (category) LEFT JOIN effects e USING (category)"
        " ORDER BY at_chance, o.change DESC, o.benchmark, category"
    )
    rows.loc[rows["at_chance"], ["change", "change_low", "change_high"]] = float("nan")
    return with_calls(rows, margin)
