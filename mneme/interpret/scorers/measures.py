"""Measures of many labels at once: L latents, n windows each (padded), R resamplings of the documents.

Windows of a document depend on each other, and latents share documents: all are resampled together, by one
exponential weight a document (`mneme.stats.bootstrap.exponential_weights`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REPLICATES = 200


class Side(NamedTuple):
    """The windows of one kind (positives, or negatives) that L labels are judged on."""

    fit: np.ndarray
    """(L, n) how well each fits the label."""
    mask: np.ndarray
    """(L, n) bool: whether there is a window."""
    document: np.ndarray
    """(L, n), or (n,) where all labels have the same windows: index of the document."""


def best_thresholds(positive: Side, negative: Side) -> np.ndarray:
    """(L,) the threshold of largest balanced accuracy, half-way between the fits it parts; NaN without a side.

    A fit above the threshold is a yes. Only cuts just below a positive can be best.
    """
    p = np.where(positive.mask, positive.fit, np.nan)
    n = np.where(negative.mask, negative.fit, -np.inf)
    n_positive = positive.mask.sum(1).astype(np.float32)[:, None]
    n_negative = negative.mask.sum(1).astype(np.float32)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = (p[:, None, :] >= p[:, :, None]).sum(2) / n_positive
        wrong = (n[:, None, :] >= p[:, :, None]).sum(2) / n_negative
        gain = np.where(positive.mask, hit - wrong, -np.inf)
        # Of equally good cuts the lowest.
        best = gain.max(1, keepdims=True, initial=-np.inf)
        at = np.where(gain == best, p, np.inf).argmin(1)
        cut = p[np.arange(len(p)), at][:, None]
        below = np.maximum(
            np.where(p < cut, p, -np.inf).max(1, initial=-np.inf),
            np.where(n < cut, n, -np.inf).max(1, initial=-np.inf),
        )
    cut = cut[:, 0]
    threshold = np.where(np.isfinite(below), (cut + below) / 2, cut - 1)
    return np.where((n_positive[:, 0] > 0) & (n_negative[:, 0] > 0), threshold, np.nan)


def yes_rate(side: Side, threshold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(L, 1 + R) weighted share of a side's windows above the threshold; NaN where there is none."""
    passed = ((side.fit > threshold[:, None]) & side.mask).astype(np.float32)
    mask = side.mask.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        if side.document.ndim == 1:
            own = weights[side.document]
            found: np.ndarray = (passed @ own) / (mask @ own)
        else:
            own = weights[side.document]  # (L, n, 1 + R)
            found = np.einsum("ln,lnr->lr", passed, own) / np.einsum("ln,lnr->lr", mask, own)
    return found


def balanced_accuracy(hit: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Mean of the shares of positives called yes and negatives called no."""
    found: np.ndarray = (hit + 1 - wrong) / 2
    return found


def f1(hit: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """F1 where positives and negatives weigh the same in all, as if they were as many."""
    found: np.ndarray = 2 * hit / (hit + wrong + 1)
    return found


def auprc(positive: Side, negative: Side) -> np.ndarray:
    """(L,) average precision over all thresholds, both sides weighing the same: 0.5 is chance; NaN without one."""
    p = np.where(positive.mask, positive.fit, np.nan)
    n = np.where(negative.mask, negative.fit, -np.inf)
    n_positive = positive.mask.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        hit = (p[:, None, :] >= p[:, :, None]).sum(2) / n_positive[:, None]
        wrong = (n[:, None, :] >= p[:, :, None]).sum(2) / negative.mask.sum(1)[:, None]
        precision = np.where(positive.mask, hit / (hit + wrong), 0)
        return np.where(negative.mask.any(1), precision.sum(1) / n_positive, np.nan)
