"""What is said of a category, from how its predictions moved and how much of its text changed latents touch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mneme._util.vocabulary import (
    BY_LATENTS,
    CHANGED_INSIDE,
    DEGRADED,
    IMPROVED,
    LITTLE_TEXT,
    NOT_KNOWN,
    NOT_LOCALISED,
    UNAFFECTED,
    UNLIKE,
    UNMEASURED,
    WIDE,
)
from mneme.effects.config import EffectsConfig
from mneme.stats.bootstrap import Ratio


class CategoryVerdicts(NamedTuple):
    """(C,) words each."""

    direction: np.ndarray
    """degraded where the NLL change is above nll_margin, or its interval above 0; improved the other way; else none."""
    verdict: np.ndarray
    """One of CATEGORY_VERDICTS."""
    reason: np.ndarray
    """Why it is not known, as mneme/_util/vocabulary.py has it; else None."""
    shown_by: np.ndarray
    """Of a degraded or improved category: whether changed latents touch enough of its text; else None."""


def category_verdicts(
    affected: Ratio,
    nll: Ratio,
    documents: np.ndarray,
    measured: np.ndarray,
    config: EffectsConfig,
    common: float = 0.0,
) -> CategoryVerdicts:
    """A verdict rests on intervals, never on points: what spans its margin is not known.

    affected, nll: of C categories; documents, measured: (C,), how many documents each category's text comes from, and
    how many of them predictions were measured on (effective numbers, weights in mind). An interval over fewer than
    `min_documents` is no interval: one document has none at all.

    common: the NLL change that most documents share, nats per token. A category is degraded or improved beyond it:
    where all text moved alike, no category has (the run's verdict tells it), and where the base wrote the text, any
    change raises NLL by the KL, a harmless one too. Within the margin is meant absolutely.
    """
    m, touched = config.nll_margin, config.min_affected_share
    direction = np.select(
        [(nll.value > m) | (nll.low > 0), (nll.value < -m) | (nll.high < 0)], [DEGRADED, IMPROVED], "none"
    )
    unmeasured = np.isnan(nll.value)
    little = (documents < config.min_documents) | (~unmeasured & (measured < config.min_documents))
    within = (nll.low > -m) & (nll.high < m)
    upper, lower = m + max(common, 0.0), -m + min(common, 0.0)
    moved_inside, spared = affected.low > touched, affected.high < touched
    verdict = np.select(
        [little, nll.low > upper, nll.high < lower, moved_inside & within, spared & within],
        [NOT_KNOWN, DEGRADED, IMPROVED, CHANGED_INSIDE, UNAFFECTED],
        NOT_KNOWN,
    )
    with_all = (abs(common) > m) & ((nll.low > m) | (nll.high < -m))
    reason = np.select([little, unmeasured, with_all], [LITTLE_TEXT, UNMEASURED, UNLIKE], WIDE).astype(object)
    reason[verdict != NOT_KNOWN] = None
    shown_by = np.where(moved_inside, BY_LATENTS, NOT_LOCALISED).astype(object)
    shown_by[~np.isin(verdict, (DEGRADED, IMPROVED))] = None
    return CategoryVerdicts(direction, verdict, reason, shown_by)
