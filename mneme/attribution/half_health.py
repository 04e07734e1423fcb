"""Health rows of the halves of the documents: are the betas stable?

What a beta is read for is whether it changed by more than the margin. So they are stable where one half of the text
gives the other's to within the margin, whatever the spread of the latents: the correlation of halves, which the MNEME
paper looks at (arXiv 2507.21084), falls where most latents are alike, however exactly each is known
(docs/decisions/halves.md). It is told and not judged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mneme.attribution.geometry import MODELS
from mneme.attribution.halves import correlation, share_apart
from mneme.attribution.health_row import health_row, measured

_TWO_ERRORS, _ONE_ERROR = 0.0455, 0.317
"""Of normal errors, the share beyond two and beyond one standard error. With as many latents beyond the margin, it is
two, or one, standard errors of what two halves differ by."""


def half_rows(halves: np.ndarray, allowed: np.ndarray, margin: float, level: float) -> list[dict[str, Any]]:
    """Whether one half of the documents gives the betas of the other: near enough for the margin, and as near as the
    intervals say.

    halves: (half, model, F) betas. allowed: (model, F), `HalfMoments.allowed` at this level. margin: natural log.
    """
    beyond_margin = share_apart(halves, float(np.expm1(margin)))
    beyond_intervals = share_apart(halves, allowed)
    pearson = correlation(halves)
    rows = []
    for m, model in enumerate(MODELS):
        rows += [
            health_row(
                f"half_margin_{model}",
                f"Beta apart between halves of the text by more than the margin, {model}",
                measured(beyond_margin[m]),
                "share of latents",
                "betas are unstable: read more text (harvest.max_tokens)",
                warn=_TWO_ERRORS,
                fail=_ONE_ERROR,
            ),
            health_row(
                f"half_interval_{model}",
                f"Beta apart between halves of the text beyond its intervals, {model}",
                measured(beyond_intervals[m]),
                f"share of latents; {1 - level:.0%} by chance",
                "the betas' intervals are too narrow: are there documents that repeat each other, or of two kinds?",
                warn=2 * (1 - level),
                fail=_half_as_wide(level),
            ),
            health_row(
                f"half_pearson_{model}",
                f"Beta of one half of the text against the other, {model}",
                measured(pearson[m]),
                "Pearson; low also where latents hardly differ",
                "",
            ),
        ]
    return rows


def _half_as_wide(level: float) -> float:
    """How many values lie outside intervals of half the width that this level needs."""
    return float(2 * stats.norm.sf(stats.norm.ppf(0.5 + level / 2) / 2))
