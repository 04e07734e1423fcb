"""What the changed latents say that the tuning did to the activations, held against what it did, window by window.

At each token the changed latents say that the tuned model differs from the base by

    D' = sum over changed j of f_j v_j,    v_j = (beta_tuned - beta_base) p_j along the main probe p_j,
                                           or d_j_tuned - d_j_base for a turned latent

while it does by D = x_tuned - x_base. Two things follow:

    confirmed   min(|D'|, max(0, D . D' / |D'|)): how far the token did move the way that the latents say, at most as
                far as they say. A beta is a mean over all of a latent's tokens: where it fires and nothing happened,
                nothing is confirmed. What the affected share counts (predict.py).
    explained   1 - sum |D - D'|^2 / sum |D|^2 over a category's text: 1 when the changed latents are all that changed
                there, 0 when they say nothing of it, below 0 when they are wrong. What is left is what they don't tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache, on_host
from mneme.crosscoder.module import Crosscoder
from mneme.effects.windows import Windows
from mneme.harvest.protocols import Activations, Source
from mneme.models.device import on_gpu

_BATCH = 4096  # rows of activations read at a time


class Directions(NamedTuple):
    """Which way a unit of each changed latent moves the tuned model from the base."""

    latent: np.ndarray
    """(K,)."""
    vector: np.ndarray
    """(K, d) float64, raw units; |vector| is the latent's step (sums.py)."""


class Held(NamedTuple):
    """(W,) each: sums over a window's rows; or (B,), the rows themselves."""

    confirmed: np.ndarray
    """Raw units."""
    difference: np.ndarray
    """|D|^2, raw units squared."""
    left: np.ndarray
    """|D - D'|^2."""


def directions(latents: pd.DataFrame, steps: np.ndarray, decoder: torch.Tensor) -> Directions:
    """Of the latents whose step is above 0. steps: (F,), changed_steps' sum; decoder: (2, F, d), raw units."""
    return directions_of(latents, np.flatnonzero(steps > 0), decoder)


def directions_of(latents: pd.DataFrame, chosen: np.ndarray, decoder: torch.Tensor) -> Directions:
    """Of latents by their numbers (K,), whatever is called of them."""
    rows = latents.iloc[chosen]
    base, tuned = decoder[:, torch.from_numpy(chosen)].double().numpy()  # (K, d) each
    probe = np.where((rows["probe"] == "base").to_numpy()[:, None], base, tuned)
    change = rows["beta_tuned"].to_numpy(float) - rows["beta_base"].to_numpy(float)
    turned = rows["turned"].fillna(False).to_numpy(bool)[:, None]
    return Directions(chosen, np.where(turned, tuned - base, np.nan_to_num(change)[:, None] * probe))


def hold(difference: np.ndarray, said: np.ndarray) -> Held:
    """Row by row. difference, said: (B, d), D and D'."""
    length = np.linalg.norm(said, axis=1)
    along = np.divide((difference * said).sum(1), length, out=np.zeros(len(length)), where=length > 0)
    left = np.square(difference - said).sum(1)
    return Held(np.clip(along, 0, length), np.square(difference).sum(1), left)


def hold_windows(
    cache: Activations,
    codes: CodeCache,
    windows: Windows,
    moved: Directions,
    progress: Progress = NULL_PROGRESS,
) -> Held:
    """One pass over codes and activations, in token order."""
    n_windows = len(windows.document)
    found = Held(np.zeros(n_windows), np.zeros(n_windows), np.zeros(n_windows))
    column = np.full(codes.n_latents, -1)
    column[moved.latent] = np.arange(len(moved.latent))
    with progress.task("categories: activations that moved", cache.n, "tokens") as task:
        for first, part, n in codes.shards():
            of = column[part.latent.numpy()]
            kept = of >= 0
            entries = part.value.numpy()[kept].astype(np.float64), (part.row.numpy()[kept], of[kept])
            table = sparse.csr_array(entries, shape=(n, len(moved.latent)))
            for start in range(0, n, _BATCH):
                rows = slice(start, min(start + _BATCH, n))
                x = cache.read(first + rows.start, first + rows.stop).to(torch.float64).numpy()
                window = windows.row_window[first + rows.start : first + rows.stop]
                held = hold(x[:, 1] - x[:, 0], table[rows] @ moved.vector)
                for total, value in zip(found, held, strict=True):
                    total += np.bincount(window, weights=value, minlength=n_windows)
                task.advance(len(x))
    return found


def confirmed_rows(
    crosscoder: Crosscoder, source: Source, moved: Directions, progress: Progress
) -> np.ndarray:
    """(N,): what is confirmed at each row of a source whose codes were not kept, in token order, raw units."""
    found, column = [], torch.full((crosscoder.n_latents,), -1)
    column[torch.from_numpy(moved.latent)] = torch.arange(len(moved.latent))
    with progress.task("activations that moved", source.n, "tokens") as task, on_gpu(crosscoder):
        for x in source.batches(_BATCH):
            codes = on_host(crosscoder.encode_sparse(x))
            of = column[codes.latent]
            entries = codes.value[of >= 0].double(), (codes.row[of >= 0], of[of >= 0])
            table = sparse.csr_array(entries, shape=(len(x), len(moved.latent)))
            difference = (x[:, 1].double() - x[:, 0].double()).numpy()
            found.append(hold(difference, table @ moved.vector).confirmed)
            task.advance(len(x))
    return np.concatenate(found)


def share_explained(weights: np.ndarray, held: Held) -> np.ndarray:
    """(C,): 1 - left / difference over the categories' windows, (W, C) weights; NaN where nothing differs."""
    difference, left = (weights.T.astype(np.float64) @ part for part in (held.difference, held.left))
    found: np.ndarray = 1 - np.divide(left, difference, out=np.full(len(left), np.nan), where=difference > 0)
    return found
