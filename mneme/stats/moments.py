"""Sums over independent units, told of by their first and second moments: covariance and effective number."""

from __future__ import annotations

import numpy as np

from mneme._util.arrays import divide


def covariance_of_sums(totals: np.ndarray, squares: np.ndarray, n: np.ndarray) -> np.ndarray:
    """(3, F): variance of sum x, covariance of both sums, variance of sum y; NaN of fewer than two units.

    totals: (2, F), sum x and sum y over a column's units. squares: (3, F), sum x x, x y and y y. n: (F,) units. The
    sample covariance of (x, y) times n; in the squared unit of x. Variances that rounding makes negative are 0.
    """
    x, y = totals
    n = np.where(n > 1, n, np.nan)
    centred = squares - np.stack([x * x, x * y, y * y]) / n
    centred[[0, 2]] = np.maximum(centred[[0, 2]], 0)
    found: np.ndarray = centred * n / (n - 1)
    return found


def effective_number(total: np.ndarray, square: np.ndarray) -> np.ndarray:
    """How many equal units would tell as much as these, (sum x)^2 / sum x^2; NaN where nothing is (Kish 1965, 11.7).

    total, square: sum x and sum x x, of one shape.
    """
    return divide(total**2, square)
