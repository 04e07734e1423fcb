"""The channel `nll`: what a category's interval could have shown of a change of its mean NLL.

A shift of all its tokens shifts the mean and both ends of the interval (mneme/stats/bootstrap.py), so nothing needs
to be injected. With an interval of (-a, +b) about the mean and errors about normal, of the spread that the interval's
width says, a shift s is told from 0 with the chance that the error leaves the interval above 0; and the same downwards.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from mneme._util.vocabulary import LITTLE_TEXT, UNMEASURED
from mneme.effects.config import EffectsConfig
from mneme.power.summary import COLUMNS, ENOUGH
from mneme.stats.bootstrap import Ratio

UNIT = "nats per token"


def chance_told(size: np.ndarray, nll: Ratio, level: float) -> np.ndarray:
    """(C,): chance that the interval of a mean shifted by size (C,) lies off 0; the mean of both directions."""
    spread = (nll.high - nll.low) / (2 * stats.norm.ppf(0.5 + level / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = [(size - end) / spread for end in (nll.value - nll.low, nll.high - nll.value)]
    told = np.mean([stats.norm.cdf(end) for end in ends], axis=0)
    return np.where(spread > 0, told, np.where(np.isfinite(spread), 1.0, np.nan))


def smallest_told(nll: Ratio, level: float, chance: float = ENOUGH) -> np.ndarray:
    """(C,): the size that is told with that chance, nats per token; NaN where there is no interval."""
    wide = np.maximum(nll.high - nll.low, 0)
    low, high = np.zeros(len(wide)), 2 * wide + 1e-12
    for _ in range(60):  # the chance rises with the size
        middle = (low + high) / 2
        enough = chance_told(middle, nll, level) >= chance
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(np.isfinite(wide), high, np.nan)


def nll_rows(keys: list[str], nll: Ratio, enough: np.ndarray, config: EffectsConfig) -> pd.DataFrame:
    """Rows of the channel `nll`. nll: of C categories; enough: (C,) bool, those with text enough."""
    known = np.isfinite(nll.low) & np.isfinite(nll.high)
    at = chance_told(np.full(len(keys), config.nll_margin), nll, config.level)
    smallest = np.where(enough, smallest_told(nll, config.level), np.nan)
    frame = pd.DataFrame(
        {
            "category": keys,
            "channel": "nll",
            "unit": UNIT,
            "margin": config.nll_margin,
            "minimum_detectable": smallest,
            "at_margin": np.where(enough, at, 0.0),
            "n_cases": None,
            "reason": np.where(enough & ~known, UNMEASURED, np.where(enough, "", LITTLE_TEXT)),
            # intervals shrink with the root of the text that is measured
            "text_needed": np.maximum(1.0, (smallest / config.nll_margin) ** 2),
        }
    )
    return frame.assign(reason=frame["reason"].replace("", None))[list(COLUMNS)]
