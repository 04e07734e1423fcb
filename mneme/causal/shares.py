"""How much of the distance between two models' predictions a patch closes, with an interval over documents.

    share = 1 - sum_i after_i / sum_i before_i        over documents i

of KL(base || tuned) or of the difference of next-token NLL, `after` with one of the two models patched. 1: nothing of
the distance is left; 0: all of it; below 0: the patch moves them further apart; above 1 (NLL only): it overshoots.

Both sums are over the same documents, so the ratio's 95% interval is Fieller's (mneme/stats/fieller.py). Where it has
no end, `before` may be nothing, and no share is told.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mneme.stats.fieller import ratio_interval

SMALLEST = {"kl": 0.01, "nll": 0.05}
"""Distances before the patch, nats per token, below which no share is told."""


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
    found = ratio_interval(part, before)
    return UNTOLD if found is None else Share(float(part.sum()) / total, *found)


def mean(values: np.ndarray, n_tokens: np.ndarray) -> Share:
    """sum(values) / sum(n_tokens) over documents, with its interval; the value alone where there is no interval."""
    tokens = float(n_tokens.sum())
    if tokens <= 0:
        return UNTOLD
    found = ratio_interval(values, n_tokens.astype(np.float64))
    return Share(float(values.sum()) / tokens, *(found or (math.nan, math.nan)))
