"""What attribution needs of a dictionary; a Crosscoder has all of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from mneme.crosscoder.codes import SparseCodes


class SparseEncoder(Protocol):
    """Activations to codes."""

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """(B, 2, d) raw -> its active pairs."""


@runtime_checkable
class ModelEncoder(Protocol):
    """Activations to codes that may differ between the models."""

    @property
    def read_model(self) -> int | None:
        """The model (0 base, 1 tuned) whose codes `encode_sparse` gives; None: both models have the same codes."""

    def encode_models(self, x: Tensor) -> tuple[SparseCodes, SparseCodes]:
        """(B, 2, d) raw -> each model's active pairs."""


class RawDecoder(Protocol):
    """Directions in raw units."""

    def raw_decoder(self) -> Tensor:
        """(2, F, d)."""

    def raw_bias(self) -> Tensor:
        """(2, d)."""


class SparseDictionary(SparseEncoder, RawDecoder, Protocol):
    """Both."""
