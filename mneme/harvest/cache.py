"""Harvested activations, read back: in token order, in ranges, or shuffled in blocks.

Rows of a shard lie contiguously on disk, and rows are always read in runs: row-by-row reads of a shuffled
order are several times slower. A small cache is kept in memory after its first full reading.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open

from mneme._util.distributed import share
from mneme._util.errors import ActivationError
from mneme.harvest import shards
from mneme.harvest.kept_profile import read_profile
from mneme.harvest.shuffle_buffer import shuffled_batches

IN_MEMORY_BYTES = 2 * 2**30
_BUFFER_BYTES = 2**30  # of the shuffle, where the cache isn't in memory
_BLOCK_ROWS = 512  # consecutive rows the shuffle reads at once


class ActivationCache:
    """Raw residual-stream activations of both models, in token order, documents contiguous.

    Raises ActivationError for a folder without a finished harvest, or (with `expect`) one of another pair,
    corpus or settings.
    """

    def __init__(self, folder: str | Path, *, expect: str | None = None) -> None:
        self.folder = Path(folder)
        index = shards.read_index(self.folder)
        if index is None or not index["complete"]:
            raise ActivationError(
                f"{self.folder} holds no finished harvest: run it again, with the same command"
            )
        if expect is not None and index["fingerprint"] != expect:
            raise ActivationError(
                f"the activations in {self.folder} are of another pair, corpus or settings: harvest into"
                " another folder, or delete this one"
            )
        self._shards = index["shards"]
        for entry in self._shards:
            shards.check_shard(self.folder, entry, content=False)
        self._starts = np.cumsum([0, *(entry["n"] for entry in self._shards)]).tolist()
        self._memory: torch.Tensor | None = None
        self.fingerprint: str = index["fingerprint"]
        self.n: int = self._starts[-1]
        self.width: int = index["width"]
        self.layer: int = index["layer"]
        self.layer_why: str = index.get("layer_why", "")
        self.n_layers: int = index["n_layers"]
        self.n_shared_layers: int = index["n_shared_layers"]
        self.dtype: torch.dtype = getattr(torch, index["store_dtype"])
        self.topics: list[str | None] = index["topics"]
        self.n_documents = len(self.topics)
        self.n_skipped_bos: int = sum(entry["n_skipped_bos"] for entry in self._shards)
        self.n_skipped_sinks: int = sum(entry["n_skipped_sinks"] for entry in self._shards)
        differing = [entry.get("n_differing") for entry in self._shards]  # earlier versions didn't count
        self.n_differing: int | None = (
            None if None in differing else sum(differing)
        )  # rows where the streams differ
        self.median_norm: tuple[float, float] = tuple(index["median_norm"])  # of base and tuned, first shard
        self._previews: list[str] = index["previews"]
        self._lengths: list[int] = index["lengths"]

    # what each row is

    @cached_property
    def document(self) -> np.ndarray:
        """(N,) int32: the document of each row."""
        return self._column("document")

    @cached_property
    def position(self) -> np.ndarray:
        """(N,) int32: index of each row's token in its document's tokens."""
        return self._column("position")

    @cached_property
    def token(self) -> np.ndarray:
        """(N,) int32: token ids."""
        return self._column("token")

    @cached_property
    def kl(self) -> np.ndarray:
        """(N,) float32, nats: KL(base || tuned) of the predictions at each row; NaN: not measured."""
        return self._column("kl")

    @cached_property
    def nll_base(self) -> np.ndarray:
        """(N,) float32, nats: the base's surprise at the token after each row; NaN where not measured."""
        return self._column("nll_base")

    @cached_property
    def nll_tuned(self) -> np.ndarray:
        """(N,) float32, nats: the tuned model's surprise at the token after each row."""
        return self._column("nll_tuned")

    def document_tokens(self, document: int) -> np.ndarray:
        """(T,) int32: every token of a document, also those whose activations were left out."""
        bounds = self._document_bounds
        return self._document_tokens[bounds[document] : bounds[document + 1]]

    def documents(self) -> pd.DataFrame:
        """A row a document, with the columns of the run's `documents` table."""
        kept = np.bincount(self.document, minlength=self.n_documents)
        return pd.DataFrame(
            {
                "document": np.arange(self.n_documents, dtype=np.int32),
                "topic": pd.Series(self.topics, dtype=object),
                "n_tokens": np.asarray(self._lengths, dtype=np.int32),
                "n_kept": kept.astype(np.int32),
                "preview": self._previews,
            }
        )

    def layer_profile(self) -> pd.DataFrame | None:
        """A row a layer, with the columns of the run's `layer_profile` table; None where it was not measured."""
        return read_profile(self.folder)

    # the activations

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Rows start .. stop, (stop - start, 2, d), raw, in the stored precision."""
        if not 0 <= start <= stop <= self.n:
            raise IndexError(f"rows {start}..{stop} of {self.n}")
        if self._memory is not None:
            return self._memory[start:stop]
        out = torch.empty(stop - start, 2, self.width, dtype=self.dtype)
        self._read_into(out, start, stop)
        return out

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[torch.Tensor]:
        """All rows once, in batches (<= size, 2, d); only the last may be smaller.

        In token order, or shuffled: a cache that fits in memory whole, a larger one through a shuffle buffer
        (shuffle_buffer.py). The same seed gives the same batches. `part` (r, n): of every batch only the r-th of n
        shares, for rank r of n; of a larger cache it reads little more than the blocks its share comes from.
        """
        if size < 1:
            raise ValueError("a batch has at least one row")
        self._hold_if_small()
        if not shuffle:
            for start in range(0, self.n, size):
                mine = share(min(size, self.n - start), part)
                yield self.read(start + mine.start, start + mine.stop)
        elif self._memory is not None:
            order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
            for rows in order.split(size):
                yield self._memory[rows[share(len(rows), part)]]
        else:
            at_once = _BUFFER_BYTES // (2 * self.width * self.dtype.itemsize)
            yield from shuffled_batches(self.read, self.n, size, seed, part, _BLOCK_ROWS, at_once)

    def verify(self) -> None:
        """Compare every shard with its checksum. Raises ActivationError naming the first that is damaged."""
        for entry in self._shards:
            shards.check_shard(self.folder, entry, content=True)

    @property
    def n_bytes(self) -> int:
        """Size of all activations in memory."""
        return self.n * 2 * self.width * self.dtype.itemsize

    def release(self) -> None:
        """Give back the memory of a cache that was kept there."""
        self._memory = None

    def _hold_if_small(self) -> None:
        if self._memory is None and self.n_bytes < IN_MEMORY_BYTES:
            memory = torch.empty(self.n, 2, self.width, dtype=self.dtype)
            self._read_into(memory, 0, self.n)
            self._memory = memory

    def _read_into(self, out: torch.Tensor, start: int, stop: int) -> None:
        """Fill `out` with rows start .. stop."""
        at = start
        while at < stop:
            number = bisect_right(self._starts, at) - 1
            first, end = self._starts[number], min(self._starts[number + 1], stop)
            with safe_open(self.folder / self._shards[number]["file"], "pt") as file:
                out[at - start : end - start] = file.get_slice("activations")[at - first : end - first]
            at = end

    def _column(self, name: str) -> np.ndarray:
        parts = []
        for entry in self._shards:
            with safe_open(self.folder / entry["file"], "np") as file:
                parts.append(file.get_tensor(name))
        return np.concatenate(parts)

    @cached_property
    def _document_tokens(self) -> np.ndarray:
        return self._column("document_tokens")

    @cached_property
    def _document_bounds(self) -> np.ndarray:
        return np.cumsum([0, *self._lengths])
