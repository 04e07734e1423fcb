"""A ratio of two sums over independent units, its variance linearised at the estimate.

    Var(Y / X) ~ sum_i (y_i - r x_i)^2 / X^2,    r = Y / X     (Cochran 1977, "Sampling Techniques", 6.4)

Units of unequal size cost nothing here, as long as the ratio within them is the same. Where X may be 0 the exact
interval is Fieller's (fieller.py).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from mneme._util.arrays import divide
from mneme.stats.moments import effective_number


def half_width(
    ratio: np.ndarray,
    top_square: np.ndarray,
    product: np.ndarray,
    bottom: np.ndarray,
    bottom_square: np.ndarray,
    n: np.ndarray,
    level: float = 0.95,
) -> np.ndarray:
    """Half the width of the t interval of ratios Y / X, in their unit; NaN of one unit. All arguments broadcast.

    top_square, product, bottom_square: sum y y, x y, x x over units, about 0. bottom: X. n: units.

    Where few units hold most of X, the ratio lies near theirs and linearising understates the variance; so the
    effective number of units, not their number, gives the variance's n / (n - 1) and the degrees of freedom, n - 1.
    """
    n = np.where(n > 1, np.minimum(effective_number(bottom, bottom_square), n), np.nan)
    found = variance(ratio, top_square, product, bottom, bottom_square, n)
    half: np.ndarray = stats.t.ppf(0.5 + level / 2, np.maximum(n - 1, 0.1)) * np.sqrt(found)
    return half


def variance(
    ratio: np.ndarray,
    top_square: np.ndarray,
    product: np.ndarray,
    bottom: np.ndarray,
    bottom_square: np.ndarray,
    n: np.ndarray,
) -> np.ndarray:
    """Of ratios Y / X, arguments as above; n: the effective number of units. NaN where that is 1."""
    inflation = divide(n, np.where(n > 1, n - 1, 0))
    return divide(_scatter(ratio, top_square, product, bottom_square) * inflation, bottom**2)


def p_no_larger(
    top: np.ndarray,
    bottom: np.ndarray,
    top_square: np.ndarray,
    covariance: np.ndarray,
    n: np.ndarray,
    r: float,
) -> np.ndarray:
    """(F,) one-sided p-value of "|Y| <= r |X|"; NaN where the covariance is.

    top, bottom: (F,) Y and X. top_square: (F,) sum y y about 0. covariance: (3, F), of the sums: V_xx, V_xy, V_yy.
    n: (F,) units.

    A t-test of X / Y against 1 / r. (Y - r X tested at r instead would ask of every pair to prove again that Y is not
    0.) Where few units hold most of Y, linearising understates the variance; so their effective number, not their
    number, gives the degrees of freedom.
    """
    v_bottom, shared, v_top = covariance
    rho = divide(bottom, top)
    effective = np.minimum(effective_number(top, top_square), n)
    inflation = divide(effective, np.maximum(effective - 1, 1e-9))
    variance = _scatter(rho, v_bottom, shared, v_top) * inflation
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (1 / r - np.abs(rho)) * np.abs(top) / np.sqrt(variance)
        p = stats.t.sf(t, np.maximum(effective - 1, 0.1))
    p = np.where(variance == 0, np.where(np.abs(rho) < 1 / r, 0.0, 1.0), p)
    p = np.where(top == 0, 1.0, p)
    return np.where(np.isnan(shared), np.nan, p)


def _scatter(ratio: np.ndarray, yy: np.ndarray, xy: np.ndarray, xx: np.ndarray) -> np.ndarray:
    """sum (y - ratio x)^2, never below 0."""
    found: np.ndarray = np.maximum(yy - 2 * ratio * xy + ratio**2 * xx, 0)
    return found
