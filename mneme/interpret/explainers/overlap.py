"""Label overlap: do two labels of one latent, each made from half of the documents, mean the same?

The MNEME paper (arXiv 2507.21084) names an overlap of labels below 40% as a sign of failure, without saying how it is
measured. Here: the training documents are halved, the offline labeller labels each half without seeing the other,
and two labels agree when their sentence embeddings are closer than 95% of the pairs of two different latents' labels.
Labels that say nothing of their latent agree in 5%.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from mneme.interpret.contexts import Contexts
from mneme.interpret.scorers.text_fit import content

CHANCE = 0.05


def label_overlap(
    contexts: Contexts,
    label: Callable[[Contexts], pd.DataFrame],
    embed: Callable[[list[str]], np.ndarray],
    *,
    most: int = 1000,
    seed: int = 0,
) -> float:
    """Share of latents whose labels from either half of the training documents agree; NaN with fewer than 20 of them.

    label: contexts -> frame with columns latent, label. embed: n texts -> (n, e) unit rows. At most `most` latents,
    drawn evenly, are labelled.
    """
    live = np.unique(contexts.latent[~contexts.test])
    if len(live) > most:
        live = live[np.linspace(0, len(live) - 1, most).astype(int)]
    mine = np.isin(contexts.latent, live) & ~contexts.test
    halves = [
        label(contexts.take(np.flatnonzero(mine & (contexts.document % 2 == half)))).set_index("latent")[
            "label"
        ]
        for half in (0, 1)
    ]
    both = halves[0].index.intersection(halves[1].index)
    if len(both) < 20:
        return float("nan")
    one, other = (embed([content(text) for text in half.loc[both]]) for half in halves)
    return agreement(one, other, np.random.default_rng(seed))


def agreement(one: np.ndarray, other: np.ndarray, rng: np.random.Generator, shuffles: int = 20) -> float:
    """Share of rows of two (n, e) matrices of unit rows that are closer than 95% of unlike rows are."""
    n = len(one)
    shifts = rng.integers(1, n, shuffles)
    unlike = np.concatenate([(one * np.roll(other, int(s), axis=0)).sum(1) for s in shifts])
    return float(((one * other).sum(1) > np.quantile(unlike, 1 - CHANCE)).mean())
