"""What is said of a category, from how much of its text changed latents reach and from how its predictions moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mneme.effects.config import EffectsConfig
from mneme.effects.intervals import Ratio

LITTLE_TEXT = "too little text"
UNEXPLAINED = "no latent shows the change"
STEADY = "predictions hardly moved"
UNMEASURED = "predictions not measured"
UNSURE = "reach too unsure"
REASONS = (LITTLE_TEXT, UNEXPLAINED, UNMEASURED, STEADY, UNSURE)


class Judged(NamedTuple):
    """(C,) words each."""

    direction: np.ndarray
    """degraded where the NLL change is above nll_margin, or its interval above 0; improved the other way; else none."""
    verdict: np.ndarray
    """degraded or improved where the interval of the reach lies above min_reach and NLL moved by more than nll_margin;
    unaffected where that interval lies below min_reach and NLL is not sure to have moved by more than nll_margin;
    uncertain otherwise, and wherever there is too little text."""
    reason: np.ndarray
    """Why it is uncertain, one of REASONS; else None."""


def judge(reach: Ratio, nll: Ratio, documents: np.ndarray, config: EffectsConfig) -> Judged:
    """reach, nll: of C categories; documents: (C,), how many each has, weights added up."""
    up, down = nll.value > config.nll_margin, nll.value < -config.nll_margin
    direction = np.select([up | (nll.low > 0), down | (nll.high < 0)], ["degraded", "improved"], "none")
    surely = (nll.low > config.nll_margin) | (nll.high < -config.nll_margin)
    little = documents < config.min_documents
    reached, spared = reach.low > config.min_reach, reach.high < config.min_reach
    verdict = np.select(
        [little, reached & (up | down), spared & ~surely],
        ["uncertain", direction, "unaffected"],
        "uncertain",
    )
    reason = np.select([little, spared, np.isnan(nll.value), reached], REASONS[:-1], UNSURE).astype(object)
    reason[verdict != "uncertain"] = None
    return Judged(direction, verdict, reason)
