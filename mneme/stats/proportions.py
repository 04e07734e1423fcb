"""Intervals of shares of yes and no, and of their changes; they keep a width where every answer is alike.

A bootstrap of six questions that both models get wrong gives an interval of [0, 0], as if nothing could have moved.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import stats

_Z = 1.959964  # of a 95% interval


def is_binary(values: np.ndarray) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def clopper_pearson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share of n independent units, never too narrow; NaN of nothing.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26.
    """
    return _interval(hits, n, level, "exact")


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share of n independent units, right on average; NaN of nothing.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22.
    """
    return _interval(hits, n, level, "wilson")


def paired_change(base: np.ndarray, tuned: np.ndarray) -> tuple[float, float]:
    """95% interval of mean(tuned) - mean(base), (N,) of 0 and 1 each, the same questions in the same order.

    Wald's interval of a paired table with half a question added to each of its four cells (Agresti and Min 2005, Simple
    improved confidence intervals for comparing matched proportions, Statistics in Medicine 24).
    """
    n = len(base) + 2.0
    gained, lost = float(np.sum(tuned > base)) + 0.5, float(np.sum(tuned < base)) + 0.5
    change = (gained - lost) / n
    wide = _Z * np.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
    return max(change - wide, -1.0), min(change + wide, 1.0)


def unpaired_change(base: float, tuned: float, n: int) -> tuple[float, float]:
    """95% interval of tuned - base, shares of `n` questions each, as if these were drawn independently.

    From Wilson's interval of either share (Newcombe 1998, Interval estimation for the difference between independent
    proportions, method 10, Statistics in Medicine 17). With the same questions for both it is wider than it need be.
    """
    (b, b_low, b_high), (t, t_low, t_high) = (
        (share, *wilson(round(share * n), n)) for share in (base, tuned)
    )
    change = t - b
    return (
        change - float(np.hypot(t - t_low, b_high - b)),
        change + float(np.hypot(t_high - t, b - b_low)),
    )


def _interval(hits: int, n: int, level: float, method: Literal["exact", "wilson"]) -> tuple[float, float]:
    if n == 0:
        return float("nan"), float("nan")
    found = stats.binomtest(hits, n).proportion_ci(level, method=method)
    return float(found.low), float(found.high)
