"""What later rooms read of harvested activations: an ActivationCache has all of it, other holders a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor


@runtime_checkable
class Source(Protocol):
    """Batches of activations."""

    @property
    def n(self) -> int: ...
    @property
    def width(self) -> int: ...
    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """(<= size, 2, d) raw batches; the same seed gives the same order.

        `part` (r, n): of every batch only the r-th of n shares (`distributed.share`); used by several ranks.
        """


class Rows(Protocol):
    """What each of the N rows is, and what the models lost there; (N,) each, NaN where it was not measured."""

    @property
    def document(self) -> np.ndarray: ...
    @property
    def position(self) -> np.ndarray: ...
    @property
    def kl(self) -> np.ndarray: ...
    @property
    def nll_base(self) -> np.ndarray: ...
    @property
    def nll_tuned(self) -> np.ndarray: ...


class Texts(Rows, Protocol):
    """The rows, and the documents they were taken from."""

    @property
    def n_documents(self) -> int: ...
    def document_tokens(self, document: int) -> np.ndarray:
        """(T,) token ids, also of tokens whose activations were left out."""


class TopicalTexts(Texts, Protocol):
    """Documents, and what the corpus says they are about."""

    @property
    def topics(self) -> list[str | None]: ...


class Activations(Rows, Source, Protocol):
    """The rows, and their activations."""

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start .. stop, (stop - start, 2, d), raw."""


class Harvested(Texts, Activations, Protocol):
    """Rows, documents and activations."""
