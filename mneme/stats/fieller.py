"""Fieller's interval of a ratio of two sums over the same independent units: exact, and open where it must be.

For a ratio r, sum y - r sum x is a plain sum, whose variance over units is known. The interval holds the r for which a
t-test of that sum does not reject 0:

    (Y - r X)^2 <= t^2 (V_yy - 2 r V_xy + r^2 V_xx),    X = sum x, Y = sum y, V their covariance

a quadratic in r: a r^2 - 2 b r + c <= 0 with a = X^2 - t^2 V_xx, b = X Y - t^2 V_xy, c = Y^2 - t^2 V_yy. Where a <= 0,
the bottom X may be 0 and the ratio has no bound (E. C. Fieller 1954, "Some problems in interval estimation", Journal
of the Royal Statistical Society B 16).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from mneme._util.arrays import divide


def ratio_interval(top: np.ndarray, bottom: np.ndarray, level: float = 0.95) -> tuple[float, float] | None:
    """Low and high end of sum(top) / sum(bottom), both (D,) a unit; None where it has no ends, and of one unit."""
    n = len(top)
    if n < 2:
        return None
    covariance = n * np.cov(np.stack([bottom, top]))  # of the sums
    a, b, c = _quadratic(bottom.sum(), top.sum(), covariance[[0, 0, 1], [0, 1, 1]], n, level)
    if a <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    return float((b - root) / a), float((b + root) / a)


def magnitude_interval(
    totals: np.ndarray, covariance: np.ndarray, n: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """(F,) low and high end of |Y / X| for F ratios at once: in [0, inf], NaN where nothing is known.

    totals: (2, F), X and Y. covariance: (3, F), V_xx, V_xy, V_yy (`covariance_of_sums`). n: (F,) units. The low end is
    0 where Y may be nothing, the high one infinite where X may; NaN of fewer than two units and where both sums are 0.
    """
    bottom, top = totals
    a, b, c = _quadratic(bottom, top, covariance, n, level)
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    one, other = np.abs(divide(b - root, a)), np.abs(divide(b + root, a))
    spans_zero = c <= 0  # r = 0 is not rejected
    low = np.where(spans_zero, 0.0, np.minimum(one, other))
    high = np.where(a > 0, np.maximum(one, other), np.inf)
    low = np.where((a <= 0) & ((discriminant < 0) | spans_zero), 0.0, low)
    # a = 0 exactly: one root, c / 2b
    low = np.where((a == 0) & ~spans_zero, np.abs(divide(c, 2 * b)), low)
    undefined = (n < 2) | ~np.isfinite(discriminant) | ((bottom == 0) & (top == 0))
    low[undefined] = high[undefined] = np.nan
    return low, high


def signed_interval(
    totals: np.ndarray, covariance: np.ndarray, freedom: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """(F,) low and high end of Y / X for F ratios at once, with their sign; NaN where X may be nothing.

    totals: (2, F), X and Y. covariance: (3, F), V_xx, V_xy, V_yy of these. freedom: (F,) of the t distribution.
    """
    a, b, c = _quadratic(totals[0], totals[1], covariance, freedom + 1, level)
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    bounded = np.where(a > 0, a, 0)
    return divide(b - root, bounded), divide(b + root, bounded)


def _quadratic(bottom: Any, top: Any, covariance: Any, n: Any, level: float) -> tuple[Any, Any, Any]:
    """a, b, c of the inequality above, of floats or of arrays."""
    t2 = stats.t.ppf(0.5 + level / 2, np.maximum(n - 1, 0.1)) ** 2
    v_bottom, shared, v_top = covariance
    return bottom * bottom - t2 * v_bottom, bottom * top - t2 * shared, top * top - t2 * v_top
