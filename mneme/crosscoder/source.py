"""Where batches of activations come from: a tensor, a cache on disk, or any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from mneme._util.distributed import share
from mneme._util.errors import ActivationError
from mneme.harvest.protocols import Source


class TensorSource:
    """(N, 2, d) activations in memory."""

    def __init__(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[1] != 2:
            raise ActivationError(f"activations must have shape (tokens, 2, width), not {tuple(x.shape)}")
        self.x, self.n, self.width = x, x.shape[0], x.shape[2]

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start .. stop."""
        return self.x[start:stop]

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        if not shuffle:
            for batch in self.x.split(size):
                yield batch[share(len(batch), part)]
            return
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        for rows in order.split(size):
            yield self.x[rows[share(len(rows), part)]]


def as_source(activations: Source | Tensor | Iterable[Tensor]) -> Source:
    """A Source of whatever the caller has.

    Raises ActivationError for what is none, or holds no activations.
    """
    if isinstance(activations, Tensor):
        return TensorSource(activations)
    if isinstance(activations, Source):
        return activations
    if isinstance(activations, Iterable):
        parts = list(activations)
        if not parts:
            raise ActivationError("there are no activations to train on: give a longer corpus")
        return TensorSource(torch.cat(parts))
    raise ActivationError("activations must be a tensor (tokens, 2, width), a cache, or batches of these")
