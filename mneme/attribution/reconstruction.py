"""How well the dictionary holds what it did not learn from: text that training did not read, and the difference.

Two things that latents can't tell of themselves. Explained variance on held-out documents beside that on the
training's. And of the models' difference D = x_tuned - x_base, about its mean: how many directions it takes (effective
rank), and how much of it the difference of the two reconstructions explains. A change that is spread over many
directions, a little at each token, has no sparse code (the limit that MNEME's authors name, arXiv 2507.21084): latents
are silent there, whatever changed.

    participation ratio   (sum l)^2 / sum l^2, l the eigenvalues of D's covariance (Gao et al. 2017, bioRxiv 214262)
    share explained       1 - sum |D - D'|^2 / sum |D - mean D|^2, D' of the two reconstructions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme.crosscoder.codes import CodeCache, KeptCodes
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.protocols import Activations

_BATCH = 2048
MOST = 2**16
"""Tokens that are read; of more, every so many batches. The difference is heavy-tailed: a few thousand tell little."""


class Reconstruction(NamedTuple):
    """Of some documents' tokens."""

    n_tokens: int
    explained_variance: np.ndarray
    """(2,): base and tuned; NaN where nothing varies."""
    difference_rank: float
    """Participation ratio of the models' difference, directions; NaN where they do not differ."""
    difference_explained: float
    """Share of the difference's energy that the dictionary explains; below 0: its own is further off than none."""


@torch.no_grad()
def reconstructions(
    crosscoder: Crosscoder,
    cache: Activations,
    parts: Sequence[np.ndarray],
    codes: CodeCache | None = None,
) -> list[Reconstruction]:
    """Of each part of the documents, (D,) bool by number. codes: the cache's, read instead of encoding anew."""
    sums = [_Sums(crosscoder.width) for _ in parts]
    encoder = crosscoder if codes is None or crosscoder.read_model is not None else KeptCodes(codes)
    every = max(1, -(-cache.n // MOST))
    document = np.asarray(cache.document, dtype=np.int64)
    for start in range(0, cache.n, _BATCH * every):
        stop = min(start + _BATCH, cache.n)
        x = cache.read(start, stop).to(crosscoder.W_enc.device).float()
        if isinstance(encoder, KeptCodes):
            encoder.go_to(start)
            error = x - crosscoder.decode_sparse(encoder.encode_sparse(x), len(x))
        else:
            error = x - crosscoder(x)
        for each, part in zip(sums, parts, strict=True):
            mine = part[document[start:stop]]
            if mine.all():
                each.add(x, error)
            elif mine.any():
                rows = torch.from_numpy(mine).to(x.device)
                each.add(x[rows], error[rows])
    return [each.result() for each in sums]


class _Sums:
    """Running float64 sums over tokens."""

    def __init__(self, d: int) -> None:
        self.n, self.missed = 0, 0.0
        self.total, self.square, self.left = np.zeros((2, d)), np.zeros(2), np.zeros(2)
        self.second = np.zeros((d, d))

    def add(self, x: Tensor, error: Tensor) -> None:
        """x, error: (B, 2, d)."""
        difference = x[:, 1] - x[:, 0]
        self.n += len(x)
        self.total += x.sum(0).cpu().numpy()
        self.square += _squares(x)
        self.left += _squares(error)
        self.second += (difference.T @ difference).double().cpu().numpy()
        self.missed += float((error[:, 1] - error[:, 0]).square().sum())

    def result(self) -> Reconstruction:
        if not self.n:
            return Reconstruction(0, np.full(2, np.nan), float("nan"), float("nan"))
        variance = self.square - (self.total**2).sum(1) / self.n
        mean = self.total[1] - self.total[0]
        covariance = self.second - np.outer(mean, mean) / self.n
        energy = float(np.trace(covariance))
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = np.where(variance > 0, 1 - self.left / variance, np.nan)
        # rounding leaves something of equal streams
        if energy <= 1e-10 * float(self.square.sum()):
            return Reconstruction(self.n, explained, float("nan"), float("nan"))
        rank = energy**2 / float(np.square(covariance).sum())
        return Reconstruction(self.n, explained, rank, 1 - self.missed / energy)


def _squares(x: Tensor) -> np.ndarray:
    """(2,) sums of squares of (B, 2, d), each model's, a row at a time."""
    found: np.ndarray = torch.linalg.vector_norm(x, dim=2).double().square().sum(0).cpu().numpy()
    return found
