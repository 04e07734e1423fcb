"""How much of what the tuning did to the activations the changed latents account for, window by window.

At each token the changed latents say that the tuned model differs from the base by

    sum over changed j of f_j v_j,    v_j = (beta_tuned - beta_base) p_j along the main probe p_j,
                                      or d_j_tuned - d_j_base for a redirected latent

and the share of a category's squared difference |x_tuned - x_base|^2 that is gone once this is taken off is its share
explained: 1 when the changed latents are all that changed there, 0 when they say nothing of it, below 0 when they are
wrong. What is left is what the report's latents do not tell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from mneme.crosscoder.codes import CodeCache
from mneme.effects.windows import Windows
from mneme.progress import NULL_PROGRESS, Progress

_BATCH = 4096  # rows of activations read at a time


class Directions(NamedTuple):
    """Which way a unit of each changed latent moves the tuned model from the base."""

    latent: np.ndarray
    """(K,)."""
    vector: np.ndarray
    """(K, d) float64, raw units; |vector| is the latent's step (sums.py)."""


class Squares(NamedTuple):
    """(W,) each: sums over a window's rows, raw units squared."""

    difference: np.ndarray
    """|x_tuned - x_base|^2."""
    left: np.ndarray
    """The same once the changed latents' part is taken off."""


def directions(latents: pd.DataFrame, steps: np.ndarray, decoder: torch.Tensor) -> Directions:
    """Of the latents whose step is above 0. steps: (F,), changed_steps' sum; decoder: (2, F, d), raw units."""
    chosen = np.flatnonzero(steps > 0)
    rows = latents.iloc[chosen]
    base, tuned = decoder[:, torch.from_numpy(chosen)].double().numpy()  # (K, d) each
    probe = np.where((rows["probe"] == "base").to_numpy()[:, None], base, tuned)
    change = rows["beta_tuned"].to_numpy(float) - rows["beta_base"].to_numpy(float)
    redirected = rows["redirected"].fillna(False).to_numpy(bool)[:, None]
    return Directions(chosen, np.where(redirected, tuned - base, np.nan_to_num(change)[:, None] * probe))


def sum_squares(
    cache: Any, codes: CodeCache, windows: Windows, moved: Directions, progress: Progress = NULL_PROGRESS
) -> Squares:
    """One pass over codes and activations, in token order."""
    n_windows = len(windows.document)
    found = Squares(np.zeros(n_windows), np.zeros(n_windows))
    column = np.full(codes.n_latents, -1)
    column[moved.latent] = np.arange(len(moved.latent))
    with progress.task("categories: share explained", cache.n, "tokens") as task:
        for first, part, n in codes.shards():
            of = column[part.latent.numpy()]
            kept = of >= 0
            entries = part.value.numpy()[kept].astype(np.float64), (part.row.numpy()[kept], of[kept])
            table = sparse.csr_array(entries, shape=(n, len(moved.latent)))
            for start in range(0, n, _BATCH):
                rows = slice(start, min(start + _BATCH, n))
                x = cache.read(first + rows.start, first + rows.stop).to(torch.float64).numpy()
                difference = x[:, 1] - x[:, 0]
                left = difference - table[rows] @ moved.vector
                window = windows.row_window[first + rows.start : first + rows.stop]
                for total, value in zip(found, (difference, left), strict=True):
                    total += np.bincount(window, weights=np.square(value).sum(1), minlength=n_windows)
                task.advance(len(x))
    return found


def share_explained(weights: np.ndarray, squares: Squares) -> np.ndarray:
    """(C,): 1 - left / difference over the categories' windows, (W, C) weights; NaN where nothing differs."""
    difference, left = (weights.T.astype(np.float64) @ part for part in squares)
    return 1 - np.divide(left, difference, out=np.full(len(left), np.nan), where=difference > 0)
