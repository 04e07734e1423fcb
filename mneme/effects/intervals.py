"""Weighted means over categories with intervals from a Poisson bootstrap over documents.

Text of one document hangs together, so documents, not tokens, are what is drawn again. Everything here is a
ratio of two sums over documents; a replicate weights both with the same Poisson(1) draws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme.attribution.bootstrap import poisson_weights

_CHUNK = 4096  # documents whose weights are drawn at once


class Ratio(NamedTuple):
    """(C,) each: the mean and the ends of its interval; NaN where there is no text."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def per_document(weights: np.ndarray, document: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """(D, C): sum over a document's windows of weight x value. weights (W, C), document and values (W,)."""
    n = int(document.max(initial=-1)) + 1
    add = sparse.csr_array((values, (document, np.arange(len(document)))), shape=(n, len(document)))
    return sparse.csr_array(add @ sparse.csr_array(weights.astype(np.float64)))


def ratio_intervals(
    numerator: sparse.csr_array,
    denominator: sparse.csr_array,
    *,
    replicates: int,
    level: float,
    seed: int,
) -> Ratio:
    """Sum over documents of numerator / denominator, both (D, C), with percentile intervals."""
    n_documents, n_categories = numerator.shape
    top = np.zeros((n_categories, replicates))
    bottom = np.zeros((n_categories, replicates))
    for start in range(0, n_documents, _CHUNK):
        rows = slice(start, min(start + _CHUNK, n_documents))
        draws = poisson_weights(np.arange(rows.start, rows.stop), replicates, seed).astype(np.float64)
        top += numerator[rows].T @ draws
        bottom += denominator[rows].T @ draws
    drawn = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    # A category held up by one or two documents has many replicates without any: no interval then.
    enough = np.isfinite(drawn).mean(1) > 0.5
    low, high = np.full(n_categories, np.nan), np.full(n_categories, np.nan)
    if enough.any():
        tails = [(1 - level) / 2, (1 + level) / 2]
        low[enough], high[enough] = np.nanquantile(drawn[enough], tails, axis=1)
    whole = np.asarray(denominator.sum(0)).ravel()
    value = np.divide(
        np.asarray(numerator.sum(0)).ravel(), whole, out=np.full(n_categories, np.nan), where=whole > 0
    )
    return Ratio(value, low, high)
