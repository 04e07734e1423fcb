"""Intervals of a change in a share of right or wrong answers; they keep a width where every answer is alike.

A bootstrap of six questions that both models get wrong gives an interval of [0, 0], as if nothing could have moved.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

_Z = 1.959964  # of a 95% interval


def is_binary(values: np.ndarray) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


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
    ends = []
    for share in (base, tuned):
        interval = binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
        ends.append((share, interval.low, interval.high))
    (b, b_low, b_high), (t, t_low, t_high) = ends
    change = t - b
    return (
        change - float(np.hypot(t - t_low, b_high - b)),
        change + float(np.hypot(t_high - t, b - b_low)),
    )
