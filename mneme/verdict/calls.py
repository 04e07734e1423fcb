"""Verdicts held against measured outcomes: confirmed, false, missed, undecided or open, and one sentence of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from mneme._util.vocabulary import (
    BETTER,
    CALLS,
    CONFIRMED,
    DEGRADED,
    FALSE,
    IMPROVED,
    MISSED,
    MOVED,
    NOT_KNOWN,
    NOT_MEASURED,
    OPEN,
    SAME,
    UNDECIDED,
    WORSE,
)
from mneme.stats.proportions import wilson


def outcome(
    change: float | None, low: float | None, high: float | None, margin: float, proven: bool = True
) -> str:
    """One of OUTCOMES. Without an interval nothing is known to lie within the margin: beyond it the change counts.

    change: measured, positive is worse (nats, or a rise of the error rate); low, high: ends of its interval. proven:
    whether the base is known to do better than guessing; of what it cannot do, nothing shows that it stayed the same.
    """
    change, low, high = (math.nan if x is None else float(x) for x in (change, low, high))
    if math.isnan(change):
        return NOT_MEASURED
    if math.isnan(low) or math.isnan(high):
        return WORSE if change > margin else BETTER if change < -margin else OPEN
    if low > margin:
        return WORSE
    if high < -margin:
        return BETTER
    return SAME if proven and low > -margin and high < margin else OPEN


def call(verdict: str, measured: str) -> str:
    """One of CALLS; '' where nothing was measured. verdict: of the category; measured: one of OUTCOMES."""
    if measured == NOT_MEASURED:
        return ""
    if verdict == NOT_KNOWN:
        return UNDECIDED
    if measured == OPEN:
        return OPEN
    if verdict in MOVED:
        return CONFIRMED if (verdict, measured) in ((DEGRADED, WORSE), (IMPROVED, BETTER)) else FALSE
    return CONFIRMED if measured == SAME else MISSED


def with_calls(effects: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Add `measured` (one of OUTCOMES) and `call` (one of CALLS, None where nothing was measured).

    effects: columns verdict, change, change_low, change_high; proven, where outcomes may be a capability.
    margin: nats per token.
    """
    proven = effects["proven"].astype(bool) if "proven" in effects else [True] * len(effects)
    rows = zip(effects["change"], effects["change_low"], effects["change_high"], proven, strict=True)
    measured = [outcome(change, low, high, margin, sure) for change, low, high, sure in rows]
    calls = [call(str(v), m) or None for v, m in zip(effects["verdict"], measured, strict=True)]
    return effects.assign(
        measured=pd.Series(measured, index=effects.index, dtype=object),
        call=pd.Series(calls, index=effects.index, dtype=object),
    )


class Rates(NamedTuple):
    """How good the calls are, always both together; intervals are Wilson's, 95%."""

    counts: Counter[str]
    """Call -> categories."""
    measured: int
    decided: int
    """Measured categories whose verdict is known."""
    share_decided: tuple[float, float, float]
    """decided / measured: value, low, high; NaN of nothing."""
    precision: tuple[float, float, float]
    """confirmed / (confirmed + false + missed): value, low, high; NaN of nothing."""


def rates(calls: Iterable[str]) -> Rates:
    """calls: one a category; '' (not measured) counts for nothing."""
    counts = Counter(each for each in calls if each)
    measured = sum(counts.values())
    decided = measured - counts[UNDECIDED]
    settled = counts[CONFIRMED] + counts[FALSE] + counts[MISSED]
    return Rates(counts, measured, decided, _share(decided, measured), _share(counts[CONFIRMED], settled))


def calls_sentence(calls: Iterable[str]) -> str:
    """The one sentence on the calls, the same wherever it stands; '' where nothing was measured."""
    found = rates(calls)
    if not found.measured:
        return ""
    named = ", ".join(f"{found.counts[name]} {name}" for name in CALLS)
    some = "1 measured category" if found.measured == 1 else f"{found.measured} measured categories"
    head = f"Of {some}: {named}; {_rate(found.share_decided)} decided"
    settled = found.counts[CONFIRMED] + found.counts[FALSE] + found.counts[MISSED]
    return f"{head}, precision {_rate(found.precision)}." if settled else f"{head}."


def _share(hits: int, n: int) -> tuple[float, float, float]:
    return hits / n if n else math.nan, *wilson(hits, n)


def _rate(rate: tuple[float, float, float]) -> str:
    """`0.53 [0.40, 0.65]`."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*rate)
