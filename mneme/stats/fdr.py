"""The false-discovery rate."""

from __future__ import annotations

import numpy as np
from scipy import stats


def false_discovery_q(p: np.ndarray) -> np.ndarray:
    """(F,) q-values of those p-values that are not NaN, as if there were no others; NaN elsewhere.

    Benjamini and Hochberg 1995, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57:
    calling all of q < rate keeps the expected share of wrong calls below it.
    """
    q = np.full(len(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known], method="bh")
    return q
