"""What attribution needs of a dictionary; a Crosscoder has all of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from mneme.crosscoder.codes import SparseCodes


class SparseEncoder(Protocol):
    """Activations to codes."""

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """(B, 2, d) raw -> its active pairs."""


class RawDecoder(Protocol):
    """Directions in raw units."""

    def raw_decoder(self) -> Tensor:
        """(2, F, d)."""

    def raw_bias(self) -> Tensor:
        """(2, d)."""


class SparseDictionary(SparseEncoder, RawDecoder, Protocol):
    """Both."""
