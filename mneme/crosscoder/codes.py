"""Sparse codes: which latents fire at which token, how strongly; in memory and on disk.

A CodeCache holds the codes of all N tokens of a harvest in token order, in shards of row pointers, latent ids
and values, so that everything after the one encoding pass reads codes and never runs the encoder again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mneme._util import distributed
from mneme._util.errors import CrosscoderError
from mneme._util.files import write_text

SHARD_ENTRIES = 8_000_000


class SparseCodes(NamedTuple):
    """Active (token, latent) pairs, sorted by row, then latent."""

    row: Tensor
    """(n,) int64: index of the token in its batch."""
    latent: Tensor
    """(n,) int64."""
    value: Tensor
    """(n,) float32: the activation f, above 0."""


def on_host(codes: Sequence[Tensor]) -> SparseCodes:
    """The same codes in the host's memory."""
    return SparseCodes(*(part.cpu() for part in codes))


def values_at(pairs: SparseCodes, codes: SparseCodes, n_latents: int) -> Tensor:
    """(n,): what `codes` hold at n pairs (row, latent), 0 where they hold none; both in order."""
    wanted, keys = (part.row * n_latents + part.latent for part in (pairs, codes))
    if not len(keys):
        return torch.zeros(len(wanted), device=wanted.device)
    at = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
    return torch.where(keys[at] == wanted, codes.value[at], 0.0)


class Shard(NamedTuple):
    """A run of tokens' codes."""

    first_token: int
    codes: SparseCodes
    """Rows count from first_token."""
    n_tokens: int


class CodeCache:
    """Codes of all tokens, on disk.

    Write with `write` for each batch in token order, then `finish`. Reading raises CrosscoderError for a
    folder that isn't finished or is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._pending: list[tuple[SparseCodes, int]] = []
        self._entries = 0
        self._index: list[dict[str, int]] = []

    # writing

    def start(self) -> None:
        """Begin anew: what the folder holds is deleted."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self._pending, self._entries, self._index = [], 0, []

    def write(self, codes: SparseCodes, n_tokens: int) -> None:
        """The next `n_tokens` tokens' codes."""
        self._pending.append((on_host(codes), n_tokens))
        self._entries += len(codes.row)
        if self._entries >= SHARD_ENTRIES:
            self._flush()

    def finish(self, n_latents: int) -> None:
        """Write what is pending and the index: the cache is whole from here on."""
        self._flush()
        write_text(self.folder / "index.json", json.dumps({"n_latents": n_latents, "shards": self._index}))

    def join(self, parts: Sequence[CodeCache]) -> None:
        """Take over the shards of finished caches, whose tokens follow each other, and delete their folders."""
        n_latents = parts[0].n_latents
        for part in parts:
            for number, entry in enumerate(part._read_index()["shards"]):
                shutil.move(part.folder / _shard_name(number), self.folder / _shard_name(len(self._index)))
                self._index.append(entry)
            shutil.rmtree(part.folder)
        self.finish(n_latents)

    def _flush(self) -> None:
        if not self._pending:
            return
        counts = torch.cat([torch.bincount(codes.row, minlength=n) for codes, n in self._pending])
        pointers = torch.zeros(len(counts) + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=pointers[1:])
        tensors = {
            "pointers": pointers,
            "latent": torch.cat([codes.latent for codes, _ in self._pending]).to(torch.int32),
            "value": torch.cat([codes.value for codes, _ in self._pending]).to(torch.float32),
        }
        save_file(tensors, self.folder / _shard_name(len(self._index)))
        self._index.append({"n_tokens": len(counts), "n_entries": self._entries})
        self._pending, self._entries = [], 0

    # reading

    @property
    def n_latents(self) -> int:
        """F."""
        return int(self._read_index()["n_latents"])

    @property
    def n_tokens(self) -> int:
        """N."""
        return sum(entry["n_tokens"] for entry in self._read_index()["shards"])

    def shards(self) -> Iterator[Shard]:
        """All codes, in token order."""
        first = 0
        for number, entry in enumerate(self._read_index()["shards"]):
            file = self.folder / _shard_name(number)
            try:
                tensors = load_file(file)
            except (OSError, SafetensorError) as error:
                raise CrosscoderError(f"{file} is damaged: run the same command again") from error
            counts = tensors["pointers"].diff()
            row = torch.repeat_interleave(torch.arange(len(counts)), counts)
            codes = SparseCodes(row, tensors["latent"].long(), tensors["value"])
            yield Shard(first, codes, entry["n_tokens"])
            first += entry["n_tokens"]

    def _read_index(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "index.json").read_text())
            return found
        except (OSError, json.JSONDecodeError) as error:
            raise CrosscoderError(f"{self.folder} holds no codes: run the same command again") from error


class KeptCodes:
    """Gives successive batches' codes as a CodeCache holds them, where a crosscoder would encode."""

    def __init__(self, codes: CodeCache) -> None:
        self._codes, self._next = codes, 0
        self._shards, self._shard = codes.shards(), cast("Shard | None", None)

    def go_to(self, token: int) -> None:
        """The next batch begins with this token."""
        if token < self._next:  # else what is between is passed over
            self._shards, self._shard = self._codes.shards(), None
        self._next = token

    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """(B, 2, d): the next B tokens' codes, on its device. Raises CrosscoderError where the cache has fewer."""
        start, stop = self._next, self._next + len(x)
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        while self._next < stop:
            while self._shard is None or self._shard.first_token + self._shard.n_tokens <= self._next:
                self._shard = next(self._shards, None)
                if self._shard is None:
                    raise CrosscoderError(
                        f"{self._codes.folder} holds the codes of fewer tokens: run the same command again"
                    )
            first, codes, n = self._shard
            end = min(stop, first + n)
            bounds = torch.tensor([self._next - first, end - first])
            here = slice(*torch.searchsorted(codes.row, bounds).tolist())
            parts.append((codes.row[here] + (first - start), codes.latent[here], codes.value[here]))
            self._next = end
        if not parts:
            return SparseCodes(
                torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0)
            )
        return SparseCodes(*(torch.cat(column).to(x.device) for column in zip(*parts, strict=True)))


@contextlib.contextmanager
def code_writer(folder: Path | str | None, n_latents: int) -> Iterator[Callable[[Any, int], None]]:
    """A function that takes each batch's codes and number of tokens; the cache is whole once this closes.

    None writes nothing. With several ranks, whose tokens must follow each other, one cache is made of all.
    """
    if folder is None:
        yield lambda codes, n: None
        return
    parts = [CodeCache(folder)]
    if distributed.world_size() > 1:
        parts = [CodeCache(Path(folder) / f"rank{number}") for number in range(distributed.world_size())]
        distributed.gather(CodeCache(folder).start if distributed.rank() == 0 else lambda: None)
    mine = parts[distributed.rank()]
    mine.start()
    yield mine.write
    mine.finish(n_latents)
    if len(parts) > 1:
        distributed.gather(lambda: None)  # all are written
        distributed.gather(
            partial(CodeCache(folder).join, parts) if distributed.rank() == 0 else lambda: None
        )


def _shard_name(number: int) -> str:
    return f"{number:05d}.safetensors"


def to_csr(folder: str | Path) -> scipy.sparse.csr_matrix:
    """All codes as one (N, F) float32 matrix: for caches that fit in memory."""
    cache = CodeCache(folder)
    parts = []
    for shard in cache.shards():
        counts = torch.bincount(shard.codes.row, minlength=shard.n_tokens).numpy()
        pointers = np.concatenate([[0], np.cumsum(counts)])
        shape = (shard.n_tokens, cache.n_latents)
        latent = shard.codes.latent.numpy().astype(np.int32)
        parts.append(scipy.sparse.csr_matrix((shard.codes.value.numpy(), latent, pointers), shape=shape))
    if not parts:
        return scipy.sparse.csr_matrix(np.zeros((0, cache.n_latents), np.float32))
    found: scipy.sparse.csr_matrix = scipy.sparse.vstack(parts, format="csr")
    return found
