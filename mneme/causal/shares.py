"""How much of the distance between two models' predictions a patch closes, with an interval over documents.

    share = 1 - sum_i after_i / sum_i before_i        over documents i

of KL(base || tuned) or of the difference of next-token NLL, `after` with one of the two models patched. 1: nothing of
the distance is left; 0: all of it; below 0: the patch moves them further apart; above 1 (NLL only): it overshoots.

Both sums are over the same documents, so the ratio's interval is Fieller's (1954): the ratios r for which a t-test
does not reject that sum (after - r before) is 0. Where it has no end, `before` may be nothing, and no share is told.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
SMALLEST = {"kl": 0.01, "nll": 0.05}
"""Distances before the patch, nats a token, below which no share is told."""


class Share(NamedTuple):
    """A share and the ends of its interval; NaN where it is not told."""

    value: float
    low: float
    high: float


UNTOLD = Share(math.nan, math.nan, math.nan)


def share(before: np.ndarray, after: np.ndarray, n_tokens: np.ndarray, smallest: float) -> Share:
    """1 - sum(after) / sum(before), sums of documents (D,) each.

    Not told where |before| a token is under `smallest`, or where the interval has no end.
    """
    return closed(before, before - after, n_tokens, smallest)


def closed(before: np.ndarray, part: np.ndarray, n_tokens: np.ndarray, smallest: float) -> Share:
    """sum(part) / sum(before): a share, or with `part` the difference of two patches' `after`, that of their shares."""
    total, tokens = float(before.sum()), float(n_tokens.sum())
    if tokens <= 0 or abs(total) / tokens < smallest:
        return UNTOLD
    found = fieller(part, before)
    return UNTOLD if found is None else Share(float(part.sum()) / total, *found)


def fieller(top: np.ndarray, bottom: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The ends of the interval of sum(top) / sum(bottom), both (D,); None where it has none."""
    n = len(top)
    if n < 2:
        return None
    covariance = n * np.cov(np.stack([bottom, top]))  # of the sums
    t2 = float(stats.t.ppf(0.5 + level / 2, n - 1)) ** 2
    x, y = float(bottom.sum()), float(top.sum())
    a = x * x - t2 * float(covariance[0, 0])
    b = x * y - t2 * float(covariance[0, 1])
    c = y * y - t2 * float(covariance[1, 1])
    if a <= 0:
        return None
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


def mean(values: np.ndarray, n_tokens: np.ndarray) -> Share:
    """sum(values) / sum(n_tokens) over documents, with its interval; the value alone where there is no interval."""
    tokens = float(n_tokens.sum())
    if tokens <= 0:
        return UNTOLD
    found = fieller(values, n_tokens.astype(np.float64))
    return Share(float(values.sum()) / tokens, *(found or (math.nan, math.nan)))
