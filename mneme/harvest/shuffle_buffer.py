"""Batches in random order from a cache too large for memory, so that every rank reads what it needs and no more.

Blocks of consecutive rows are dealt at random to buffers. A buffer reads a few of its blocks at a time and hands out
their rows in random order; a batch takes an equal run from every buffer. So a rank's share of the batches always
comes from the same buffers, and the rank reads no others, while the batches do not depend on how many
ranks there are. Buffers end up to a block apart: what is left of them then, about a block each, is read by all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mneme._util.distributed import share

_MOST_BUFFERS = 64

Read = Callable[[int, int], Tensor]


def shuffled_batches(
    read: Read, n: int, size: int, seed: int, part: tuple[int, int], block: int, at_once: int
) -> Iterator[Tensor]:
    """All n rows once, in batches (<= size, ...), of each the share of `part`; only the last may be smaller.

    read(start, stop) gives rows; `block` of them are read together, about `at_once` are held by all buffers.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = (torch.randperm(-(-n // block), generator=generator) * block).tolist()
    blocks = [(start, min(start + block, n)) for start in starts]
    n_buffers = max(k for k in range(1, _MOST_BUFFERS + 1) if size % k == 0)
    seeds = torch.randint(2**62, (n_buffers + 1,), generator=generator).tolist()
    depth = max(1, at_once // (n_buffers * block))
    buffers = [_Buffer(read, blocks[buffer::n_buffers], seeds[buffer], depth) for buffer in range(n_buffers)]
    quota = size // n_buffers
    n_batches = min(buffer.n for buffer in buffers) // quota
    mine = range(size)[share(size, part)]
    for _ in range(n_batches):
        rows = []
        for at, buffer in zip(range(0, size, quota), buffers, strict=True):
            first, stop = max(mine.start - at, 0), min(mine.stop - at, quota)
            if first < stop:
                rows.append(buffer.take(quota)[first:stop])
        yield torch.cat(rows)
    ends = [rows for buffer in buffers for rows in buffer.rest(n_batches * quota)]
    if not ends:
        return
    left = torch.cat(ends)
    order = torch.randperm(len(left), generator=torch.Generator().manual_seed(seeds[-1]))
    for chosen in order.split(size):
        yield left[chosen[share(len(chosen), part)]]


class _Buffer:
    """Some blocks' rows in a random order that doesn't depend on who takes them."""

    def __init__(self, read: Read, blocks: list[tuple[int, int]], seed: int, depth: int) -> None:
        self.n = sum(stop - start for start, stop in blocks)
        self._read, self._seed = read, seed
        self._groups = [blocks[k : k + depth] for k in range(0, len(blocks), depth)]
        self._next = 0
        self._held: Tensor | None = None

    def take(self, n: int) -> Tensor:
        """The next n rows."""
        while self._held is None or len(self._held) < n:
            more = self._shuffled(self._next)
            self._held = more if self._held is None else torch.cat([self._held, more])
            self._next += 1
        rows, self._held = self._held[:n], self._held[n:]
        return rows

    def rest(self, start: int) -> Iterator[Tensor]:
        """The rows from the start-th on, whether or not those before were taken; they are not read for it."""
        at = 0
        for number, group in enumerate(self._groups):
            n = sum(stop - first for first, stop in group)
            if at + n > start:
                yield self._shuffled(number)[max(start - at, 0) :]
            at += n

    def _shuffled(self, number: int) -> Tensor:
        """A group of blocks."""
        rows = torch.cat([self._read(start, stop) for start, stop in self._groups[number]])
        return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(self._seed + number))]
