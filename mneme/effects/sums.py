"""One pass over codes and activations: all that prediction and baselines need, added up per window.

A window (about a hundred tokens) has one set of category weights, so everything a category needs is a
weighted sum of window sums; and intervals over documents need nothing finer. Codes and activations are read
once, shard by shard; memory grows with the number of windows and with C x F, not with the number of codes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from mneme._util.errors import ActivationError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache
from mneme.effects.windows import Windows
from mneme.harvest.protocols import Source

_BATCH = 4096  # rows of activations read at a time


class CodeSums(NamedTuple):
    """What latents did in each window and category."""

    moved: np.ndarray
    """(S, W): sum over a window's rows of sum_j f_j step_sj, for each of S sets of steps."""
    firing: np.ndarray
    """(C, F): sum over rows of (weight of the row's window in the category) x f_j."""
    total: np.ndarray
    """(F,): sum over rows of f_j."""


def sum_codes(
    codes: CodeCache,
    windows: Windows,
    weights: np.ndarray,
    steps: np.ndarray,
    progress: Progress = NULL_PROGRESS,
) -> CodeSums:
    """Add up the codes of all N tokens. weights: (W, C); steps: (S, F), how far a unit of each latent moves.

    Raises ActivationError when the codes are of another harvest.
    """
    n_windows, n_latents = len(windows.document), codes.n_latents
    if codes.n_tokens != len(windows.row_window):
        raise ActivationError(
            f"codes of {codes.n_tokens} tokens, activations of {len(windows.row_window)}:"
            " delete the codes and run the same command again"
        )
    moved = np.zeros((len(steps), n_windows))
    firing = np.zeros((weights.shape[1], n_latents))
    total = np.zeros(n_latents)
    by_category = sparse.csr_array(weights.astype(np.float64)).T.tocsr()  # (C, W)
    with progress.task("categories: latents", codes.n_tokens, "tokens") as task:
        for first, part, n in codes.shards():
            window = windows.row_window[first + part.row.numpy()]
            latent, value = part.latent.numpy(), part.value.numpy().astype(np.float64)
            seen, local = np.unique(window, return_inverse=True)
            table = sparse.csr_array((value, (local, latent)), shape=(len(seen), n_latents))
            moved[:, seen] += (table @ steps.T).T
            firing += (by_category[:, seen] @ table).toarray()
            total += np.bincount(latent, weights=value, minlength=n_latents)
            task.advance(n)
    return CodeSums(moved, firing, total)


class ActivationSums(NamedTuple):
    """What the activations did in each window."""

    difference_norm: np.ndarray
    """(W,): sum over rows of |x_tuned - x_base|, raw units."""
    difference: np.ndarray
    """(W, d): sum over rows of x_tuned - x_base."""
    typical: float
    """Root mean square of |x_base - mean|: the base's typical deviation, raw units."""


def sum_activations(cache: Source, windows: Windows, progress: Progress = NULL_PROGRESS) -> ActivationSums:
    """Add up an ActivationCache, in token order."""
    n_windows, d = len(windows.document), cache.width
    norm, difference = np.zeros(n_windows), np.zeros((n_windows, d))
    mean, square, start = np.zeros(d), 0.0, 0
    with progress.task("categories: activations", cache.n, "tokens") as task:
        for x in cache.batches(_BATCH):
            window = windows.row_window[start : start + len(x)]
            base = x[:, 0].to(torch.float64).numpy()  # (B, d)
            delta = x[:, 1].to(torch.float64).numpy() - base
            norm += np.bincount(window, weights=np.linalg.norm(delta, axis=1), minlength=n_windows)
            seen, local = np.unique(window, return_inverse=True)
            sum_rows = sparse.csr_array(
                (np.ones(len(x)), (local, np.arange(len(x)))), shape=(len(seen), len(x))
            )
            difference[seen] += sum_rows @ delta
            mean += base.sum(0)
            square += float(np.square(base).sum())
            start += len(x)
            task.advance(len(x))
    variance = square / max(start, 1) - float(np.square(mean / max(start, 1)).sum())
    return ActivationSums(norm, difference, float(np.sqrt(max(variance, 0.0))))


def latent_steps(latents: pd.DataFrame) -> np.ndarray:
    """(F,): how far one unit of each latent moves the tuned model from the base, raw activation units.

    |beta_tuned - beta_base| |p| along the main probe p, the decoder with the larger norm; for a latent whose
    decoders point in other directions |d_t - d_b|. Undefined betas (a latent that never fires) count as 0.
    """
    base, tuned = latents["norm_base"].to_numpy(float), latents["norm_tuned"].to_numpy(float)
    probe = np.where(latents["probe"].to_numpy() == "base", base, tuned)
    change = latents["beta_tuned"].to_numpy(float) - latents["beta_base"].to_numpy(float)
    cosine = np.nan_to_num(latents["decoder_cosine"].to_numpy(float))
    turned = np.sqrt(np.maximum(base**2 + tuned**2 - 2 * base * tuned * cosine, 0))
    apart = latents["turned"].fillna(False).to_numpy(bool)
    found: np.ndarray = np.nan_to_num(np.where(apart, turned, np.abs(change) * probe))
    return found


def norm_steps(latents: pd.DataFrame) -> np.ndarray:
    """(F,): | |d_t| - |d_b| |, the change of decoder norm alone, raw units."""
    found: np.ndarray = np.nan_to_num(
        np.abs(latents["norm_tuned"].to_numpy(float) - latents["norm_base"].to_numpy(float))
    )
    return found
