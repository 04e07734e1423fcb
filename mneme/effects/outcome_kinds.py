"""Kinds of measured outcomes, and which of them count.

    nll         NLL of text, nats per token: what a category's prediction is about
    behaviour   NLL of one answer beside another's, or of a refusal, nats per token (preferences.py)
    capability  right and wrong answers: error rate, or NLL of the right answer

In every kind base, tuned and change rise when things get worse. A capability is one only where the base has it: its
accuracy beats guessing, by a one-sided exact binomial test, q <= 0.05 over the benchmark's categories.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mneme.stats.fdr import false_discovery_q

NLL, BEHAVIOUR, CAPABILITY = "nll", "behaviour", "capability"
KINDS = {
    NLL: "next-token NLL of text",
    BEHAVIOUR: "NLL of one answer beside another, or of a refusal",
    CAPABILITY: "right and wrong answers, where the base beats guessing",
}
"""In the order in which predictions are held against them: the first kind that a run has (`primary`)."""
NATS, ERROR_RATE = "nats", "error rate"
"""Units of base, tuned and change: NLL in nats; or the share of wrong answers."""
CHANCE_LEVEL = 0.05
FEW_ITEMS = 30
"""The usual least size of a sample: of 30 answers the 95% interval of an accuracy of one half spans 36 points."""


def chance_q(outcomes: pd.DataFrame) -> np.ndarray:
    """(n,): q of "the base does no better than chance", by benchmark; NaN where accuracy, chance or n is unknown.

    outcomes: columns benchmark, kind, accuracy_base, chance, n. Where questions differ in their number of choices,
    chance is their mean; the binomial's tail is then too heavy, if at all (Hoeffding 1956).
    """
    found = np.full(len(outcomes), np.nan)
    numbers = outcomes[["accuracy_base", "chance", "n"]].astype(float)
    known = (outcomes["kind"] == CAPABILITY).to_numpy() & numbers.notna().all(axis=1).to_numpy()
    rows = numbers[known]
    right = np.rint(rows["accuracy_base"] * rows["n"])
    p = np.full(len(outcomes), np.nan)
    p[known] = stats.binom.sf(right - 1, rows["n"], rows["chance"])
    names = outcomes["benchmark"].astype(str).to_numpy()
    for name in set(names[known]):
        of = known & (names == name)
        found[of] = false_discovery_q(p[of])
    return found


def primary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """What predictions are held against: the rows of the first of KINDS that there is, one a category.

    Categories whose capability the base does not show are left out: nothing of it can be lost. Of several benchmarks a
    category counts with that of most items. In SQL: mneme/store/queries/outcomes.py.
    """
    kind = next((kind for kind in KINDS if (outcomes["kind"] == kind).any()), None)
    rows = outcomes[(outcomes["kind"] == kind) & ~(outcomes["chance_q"].astype(float) > CHANCE_LEVEL)]
    return rows.sort_values("n", ascending=False, kind="stable").drop_duplicates("category").sort_index()


def merged(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The new rows, and those old ones that they do not replace.

    A capability replaces the same benchmark's, another kind all of its kind: a run has one NLL of a category.
    """
    again = set(new["kind"]) - {CAPABILITY}
    gone = old["kind"].isin(again) | old["benchmark"].isin(set(new["benchmark"]))
    kept = old[~gone]
    return pd.concat([kept, new], ignore_index=True) if len(kept) else new.reset_index(drop=True)


def few_items(outcomes: pd.DataFrame) -> str:
    """Which categories were measured on few items, in one sentence; empty where none was."""
    rows = outcomes[outcomes["n"].astype(float) < FEW_ITEMS]
    if rows.empty:
        return ""
    names = sorted(set(rows["category"]))
    named = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    have = "category has" if len(names) == 1 else "categories have"
    return (
        f"{len(names)} {have} fewer than {FEW_ITEMS} items ({named}): their intervals are wide, and most of their"
        " outcomes stay open"
    )
