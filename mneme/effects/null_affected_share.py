"""How much of each category the changed latents of a null pair affect: what `min_affected_share` must lie above.

In a pair that did not change no latent should be called, and where none is, every affected share is 0. With a small
margin some are, and the categories they affect would be called if predictions moved there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.module import Crosscoder
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import confirmed_rows, directions
from mneme.effects.predict import affected_share_of, amount_of_text, changed_steps
from mneme.effects.side_effects import Assigned
from mneme.effects.sums import sum_activations
from mneme.harvest.protocols import Source


class NullReach(NamedTuple):
    """Of the categories with text enough, over which nothing is said about predictions."""

    n_categories: int
    n_affected: int
    """Those whose interval of the affected share lies above `min_affected_share`."""
    affected_share: float
    """The `min_affected_share` that a share `level` of them does not exceed in that way; NaN without any."""


def null_affected_share(
    crosscoder: Crosscoder,
    cache: Source,
    latents: pd.DataFrame,
    assigned: Assigned,
    config: EffectsConfig,
    progress: Progress = NULL_PROGRESS,
) -> NullReach:
    """cache: a null pair's activations, with the rows that `assigned` has; latents: what attribution says of them."""
    latents = latents.sort_values("latent").reset_index(drop=True)
    windows = assigned.windows
    enough = amount_of_text(assigned.weights, windows)["documents"].to_numpy() >= config.min_documents
    said = directions(latents, changed_steps(latents).sum(0), crosscoder.raw_decoder())
    low = np.zeros(len(enough))
    if len(said.latent):
        confirmed = np.bincount(
            windows.row_window,
            weights=confirmed_rows(crosscoder, cache, said, progress),
            minlength=len(windows.document),
        )
        typical = sum_activations(cache, windows, progress).typical
        low = affected_share_of(assigned.weights, windows, confirmed, typical, config).low
    low = low[enough]
    return NullReach(
        len(low),
        int((low > config.min_affected_share).sum()),
        float(np.quantile(low, config.level)) if len(low) else float("nan"),
    )
