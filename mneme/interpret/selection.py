"""Which tokens stand for a latent: its strongest, and a sample of all its firings; streaming, bounded memory.

Both are "keep the n best per latent" over a key: the activation (one token a document), or a hash of token
and latent, which makes the kept ones a uniform sample (bottom-k sampling, Cohen 1997). What is kept merges:
the result does not depend on how the codes are cut into shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.top_n import Best, sort_groups

SAMPLE_ENTRIES = 2**24  # of the sample, over all latents: 300 MB at most
MIN_SAMPLE, MAX_SAMPLE = 100, 1024  # firings a latent


class Codes(Protocol):
    """Of CodeCache (mneme/crosscoder/codes.py), what is used here."""

    def shards(self) -> Iterable[tuple[int, tuple[Any, Any, Any], int]]:
        """(first token, SparseCodes with rows relative to it, tokens in the shard), in token order."""


class Firings(NamedTuple):
    """Chosen (latent, token) pairs, (M,) each, sorted by latent."""

    latent: np.ndarray
    row: np.ndarray
    """int64: index of the token in the cache."""
    value: np.ndarray
    """float32: activation."""


class Selection(NamedTuple):
    """What one pass over the codes keeps."""

    top: Firings
    """Strongest first, at most one a unit (document)."""
    sample: Firings
    """A uniform sample of each latent's firings, weakest first; all of them where they are few."""
    n_active: np.ndarray
    """(F,) int64: firings of each latent."""


def select_firings(
    codes: Codes, unit: np.ndarray, n_latents: int, *, top: int, seed: int, progress: Progress = NULL_PROGRESS
) -> Selection:
    """One pass over all codes. `unit` (N,): what may give a latent only one of its `top`."""
    n_sample = int(np.clip(SAMPLE_ENTRIES // n_latents, MIN_SAMPLE, MAX_SAMPLE))
    strongest, sample = Best(n_latents, top, unit), Best(n_latents, n_sample)
    n_active = np.zeros(n_latents, dtype=np.int64)
    with progress.task("contexts", total=len(unit), unit="tokens") as task:
        for first, row, latent, value, n_tokens in plain_shards(codes):
            row = row + first
            n_active += np.bincount(latent, minlength=n_latents)
            strongest.offer(latent, row, value, _ordered(value))
            sample.offer(latent, row, value, (uniform_hash(seed, latent, row) * 2**32).astype(np.uint32))
            task.advance(n_tokens)
    *best, _ = strongest.result()
    *kept, begins = sample.result()
    latent, row, value = best
    down = np.lexsort((row, -value, latent))
    up = sort_groups(begins, kept[2])
    return Selection(Firings(*(a[down] for a in best)), Firings(*(a[up] for a in kept)), n_active)


def _ordered(value: np.ndarray) -> np.ndarray:
    """uint32 in the order of positive float32 values: their bits."""
    return np.ascontiguousarray(value, dtype=np.float32).view(np.uint32)


def plain_shards(codes: Codes) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, int]]:
    """Shards as numpy arrays: (first token, row, latent, value, tokens)."""
    for first, (row, latent, value), n_tokens in codes.shards():
        yield (
            int(first),
            np.asarray(row, dtype=np.int64),
            np.asarray(latent, dtype=np.int64),
            np.asarray(value, dtype=np.float32),
            int(n_tokens),
        )


def rank_in_group(sorted_group: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each run of equal values."""
    n = len(sorted_group)
    if not n:
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.r_[True, sorted_group[1:] != sorted_group[:-1]])
    return np.arange(n) - np.repeat(starts, np.diff(np.r_[starts, n]))


def uniform_hash(seed: int, *parts: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) that depend on the seed and the integers alone (splitmix64, Steele et al. 2014)."""
    state = np.full(parts[0].shape, seed, dtype=np.uint64)
    for part in parts:
        state = (state ^ part.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53
