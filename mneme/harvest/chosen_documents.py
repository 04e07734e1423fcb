"""Some documents of a harvest as a source of activations: a part of them, or as many drawn anew with replacement.

What a dictionary of documents drawn anew finds again does not hang on the text that happened to be read (the bootstrap:
Efron 1979); a third of the documents is not among them, others are read twice and more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mneme._util.distributed import share
from mneme.harvest.protocols import Activations
from mneme.harvest.shuffle_buffer import shuffled_batches

_BUFFER_ROWS = 2**17  # of the shuffle
_BLOCK_ROWS = 64  # consecutive rows it reads at once


class ChosenDocuments:
    """The rows of some documents, in the order in which these are named; one may be named several times."""

    def __init__(self, source: Activations, documents: np.ndarray) -> None:
        """documents: (D,), of those that have rows in the source."""
        self._source, self.width, self.documents = source, source.width, documents
        there, starts, lengths = np.unique(source.document, return_index=True, return_counts=True)
        at = np.searchsorted(there, documents)
        self._from = starts[at]  # each one's first row in the source
        self._ends = np.cumsum(lengths[at])
        self._starts = self._ends - lengths[at]
        self.n = int(self._ends[-1]) if len(at) else 0

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start .. stop, (stop - start, 2, d), raw."""
        first, last = np.searchsorted(self._ends, (start, stop - 1), side="right")
        parts = []
        for i in range(first, last + 1):
            begin, end = max(start, self._starts[i]), min(stop, self._ends[i])
            shift = int(self._from[i] - self._starts[i])
            parts.append(self._source.read(int(begin) + shift, int(end) + shift))
        return torch.cat(parts)

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """All rows once, (<= size, 2, d), in order or shuffled; of each batch the share of `part`."""
        if shuffle:
            yield from shuffled_batches(self.read, self.n, size, seed, part, _BLOCK_ROWS, _BUFFER_ROWS)
            return
        for start in range(0, self.n, size):
            mine = share(min(size, self.n - start), part)
            yield self.read(start + mine.start, start + mine.stop)


def resampled(source: Activations, seed: int) -> ChosenDocuments:
    """As many documents as have rows, drawn from these with replacement."""
    documents = np.unique(source.document)
    drawn = np.random.default_rng([seed, 11]).integers(len(documents), size=len(documents))
    return ChosenDocuments(source, documents[drawn])
