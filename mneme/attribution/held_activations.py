"""Activations held in memory, with the members of an ActivationCache that attribution and training read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mneme._util.distributed import share


class MemoryCache:
    """Pairs (N, 2, d) of known documents, behaviour not measured."""

    def __init__(self, activations: Tensor, document: np.ndarray, position: np.ndarray | None = None) -> None:
        """document: (N,), one document's tokens contiguous. position: (N,); default: counted in each."""
        n = len(activations)
        self.activations, self.n, self.width = activations, n, activations.shape[2]
        self.document = np.asarray(document, dtype=np.int32)
        if position is None:
            starts = np.flatnonzero(np.r_[True, np.diff(self.document) != 0])
            position = np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))
        self.position = np.asarray(position, dtype=np.int32)
        self.kl = self.nll_base = self.nll_tuned = np.full(n, np.nan, dtype=np.float32)

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start .. stop."""
        return self.activations[start:stop]

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """(<= size, 2, d) batches, in order unless shuffled; of each the share of `part`."""
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed)) if shuffle else None
        for start in range(0, self.n, size):
            n = min(size, self.n - start)
            mine = share(n, part)
            here = slice(start + mine.start, start + mine.stop)
            yield self.activations[here] if order is None else self.activations[order[here]]
