"""Documents that training does not read, so that what is said of its latents rests on text that did not make them.

A document is known by a hash of its tokens, not by its number: copies of one text fall on the same side, and a
dictionary knows what it has read wherever it is used. The choice is by that hash, evenly over topics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mneme._util.distributed import share as share_of
from mneme.harvest.cache import IN_MEMORY_BYTES
from mneme.harvest.protocols import Activations
from mneme.harvest.shuffle_buffer import shuffled_batches

_BLOCK_ROWS, _BUFFER_BYTES = 512, 2**30  # of the shuffle, where the rows are not in memory
FEWEST = 20
"""Held-out documents below which none is held out: intervals over fewer say little, and text that short is needed to
train on."""


def document_hashes(cache: Activations) -> np.ndarray:
    """(D,) int64, by document number: of its tokens, or where the cache has none of its last activations; 0: no row."""
    document = np.asarray(cache.document, dtype=np.int64)
    found = np.zeros(int(document.max(initial=-1)) + 1, dtype=np.int64)
    last = np.r_[np.flatnonzero(np.diff(document)), len(document) - 1] if len(document) else []
    for row in last:
        number = document[row]
        if hasattr(cache, "document_tokens"):
            content = np.ascontiguousarray(cache.document_tokens(int(number))).tobytes()
        else:
            content = cache.read(int(row), int(row) + 1).double().cpu().numpy().tobytes()
        digest = hashlib.blake2b(content, digest_size=8).digest()
        found[number] = np.frombuffer(digest, np.int64)[0] or 1
    return found


def choose_held_out(hashes: np.ndarray, share: float, topics: list[str | None] | None = None) -> np.ndarray:
    """(D,) bool: `share` of the documents, evenly over topics; none where that would be fewer than FEWEST.

    hashes: (D,), 0 for a document without rows, which is on neither side. topics: (D,).
    """
    held = np.zeros(len(hashes), dtype=bool)
    unique, first = np.unique(hashes, return_index=True)
    first = first[unique != 0]
    if share <= 0 or round(share * len(first)) < FEWEST:
        return held
    names = np.array([(topics[i] or "") if topics is not None else "" for i in first])
    # in the order of topics, then of hashes, every 1 / share-th
    place = np.arange(len(first))
    taken = np.floor((place + 1) * share) > np.floor(place * share)
    chosen = hashes[first[np.lexsort((hashes[first], names))[taken]]]
    return np.isin(hashes, chosen)


def held_out_of(cache: Activations, training: Tensor | None) -> np.ndarray | None:
    """(D,) bool: documents that a training which read those of hashes `training` did not; None: not known."""
    if training is None:
        return None
    hashes = document_hashes(cache)
    found: np.ndarray = (hashes != 0) & ~np.isin(hashes, training.cpu().numpy())
    return found


class TrainingRows:
    """The rows of a cache that are of chosen documents, as a Source."""

    def __init__(self, cache: Activations, documents: np.ndarray) -> None:
        """documents: (D,) bool."""
        self._cache, self.width = cache, cache.width
        self._rows = np.flatnonzero(documents[np.asarray(cache.document, dtype=np.int64)])
        self.n = len(self._rows)
        self._memory: Tensor | None = None

    def read(self, start: int, stop: int) -> Tensor:
        """Chosen rows start .. stop, (stop - start, 2, d), raw."""
        rows = self._rows[start:stop]
        if not len(rows):
            return self._cache.read(0, 0)
        first = int(rows[0])
        return self._cache.read(first, int(rows[-1]) + 1)[torch.from_numpy(rows - first)]

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """(<= size, 2, d) batches of the chosen rows, in order unless shuffled; of each the share of `part`."""
        memory = self._held()
        if not shuffle:
            for start in range(0, self.n, size):
                mine = share_of(min(size, self.n - start), part)
                yield self.read(start + mine.start, start + mine.stop)
        elif memory is not None:
            order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
            for rows in order.split(size):
                yield memory[rows[share_of(len(rows), part)]]
        else:
            row_bytes = self._cache.read(0, 1).nbytes
            yield from shuffled_batches(
                self.read, self.n, size, seed, part, _BLOCK_ROWS, _BUFFER_BYTES // row_bytes
            )

    def _held(self) -> Tensor | None:
        """All rows in memory, where they are few enough."""
        if self._memory is None and self.n * self._cache.read(0, 1).nbytes < IN_MEMORY_BYTES:
            self._memory = self.read(0, self.n)
        return self._memory


def topics_of(cache: Any) -> list[str | None] | None:
    """Its documents' topics, where it has them."""
    found: list[str | None] | None = getattr(cache, "topics", None)
    return found
