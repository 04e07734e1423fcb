"""Precision against the share that is decided: of the calls that a method is surest of, how many are right.

Every method has one free choice and it is the same for all, how many categories to call degraded: its highest. It is
the surer of a category the farther that lies, in its own ranking, from where degraded ends. Deciding only the surest
share gives a point of the curve (El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification",
Journal of Machine Learning Research 11).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

SHARES = (20, 40, 60, 80, 100)
"""Percent of the categories that are decided."""


def calls_by_confidence(value: np.ndarray, positive: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) both: whether each call is right, and how sure it is, in (0, 1]; the k highest are called positive.

    Sure is the distance in ranks from the boundary, over how many lie on the same side of it: neither side has the
    surer calls for being the larger one.
    """
    n = len(value)
    rank = stats.rankdata(-value, method="ordinal")  # 1 the highest
    called = rank <= k
    side = np.where(called, k, n - k)
    sure = np.abs(rank - (k + 0.5)) / np.maximum(side, 1)
    return called == positive, sure


def precision_of_surest(right: np.ndarray, sure: np.ndarray, share: float) -> np.ndarray:
    """(...): share of right calls among the surest `share` of (..., n), rounded up; ties as they stand."""
    n = right.shape[-1]
    surest = np.argsort(-sure, axis=-1, kind="stable")[..., : int(np.ceil(share * n))]
    found: np.ndarray = np.take_along_axis(right, surest, axis=-1).mean(-1)
    return found
