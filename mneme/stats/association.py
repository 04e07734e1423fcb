"""How far two columns go together, of many rows at once: arrays are (..., n), a number comes of each row.

SciPy's and scikit-learn's take a row at a time, and warn where one is undefined; here it is NaN.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from mneme._util.arrays import divide


def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...): Pearson's correlation, in [-1, 1]; NaN where one is constant."""
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return divide((a * b).sum(-1), np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...): Pearson's correlation of the ranks, ties at their mean; NaN where one is constant."""
    return pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def auroc(value: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(...): chance that a positive has a higher value than a negative, ties half; NaN with one kind only.

    positive: (..., n) bool. The Mann-Whitney statistic over its largest value (Hanley and McNeil 1982, "The
    meaning and use of the area under a receiver operating characteristic (ROC) curve", Radiology 143).
    """
    n, m = positive.sum(-1), (~positive).sum(-1)
    return divide((stats.rankdata(value, axis=-1) * positive).sum(-1) - n * (n + 1) / 2, n * m)
