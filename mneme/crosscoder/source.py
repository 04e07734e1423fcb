"""Where batches of activations come from: a tensor, a cache on disk, or any iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
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


def as_source(activations: Source | Tensor | np.ndarray | Iterable[Tensor | np.ndarray]) -> Source:
    """A Source of whatever the caller has. Nothing is learned through it: gradients end here.

    Raises ActivationError for what is none, or holds no activations.
    """
    if isinstance(activations, Tensor | np.ndarray):
        return TensorSource(as_tensor(activations))
    if isinstance(activations, Source):
        return activations
    if isinstance(activations, Iterable) and not isinstance(activations, str | bytes):
        parts = [TensorSource(as_tensor(part)).x for part in activations]
        if not parts:
            raise ActivationError("there are no activations to train on: give a longer corpus")
        if len({part.shape[2] for part in parts}) > 1:
            raise ActivationError("the batches of activations have different widths: give those of one layer")
        return TensorSource(torch.cat(parts))
    raise _no_activations(activations)


def as_tensor(activations: Tensor | np.ndarray) -> Tensor:
    """Activations as a tensor of real numbers, without their gradients.

    Raises ActivationError for anything else.
    """
    if isinstance(activations, np.ndarray) and activations.dtype.kind in "fiu":
        # torch knows neither other byte orders nor negative strides, and warns of arrays that may not be written.
        plain = activations.astype(activations.dtype.newbyteorder("="), copy=not activations.flags.writeable)
        return torch.from_numpy(np.ascontiguousarray(plain))
    if isinstance(activations, Tensor) and not activations.is_complex() and activations.dtype != torch.bool:
        return activations.detach()
    raise _no_activations(activations)


def _no_activations(given: object) -> ActivationError:
    kind = f"{type(given).__name__}"
    dtype = getattr(given, "dtype", None)
    return ActivationError(
        "activations must be real numbers (tokens, 2, width): a tensor, an array, a cache, or batches of these, not"
        f" {kind if dtype is None else f'{kind} of {dtype}'}"
    )
