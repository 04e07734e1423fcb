"""How the ranks share a training step: each takes an equal share of every batch's tokens.

What a batch decides as a whole (which pairs are active, the loss, the gradients, AuxK's variance) is summed
over the ranks, so that all hold the same weights after every step and one process would have made the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from mneme import distributed
from mneme.crosscoder.kernels import largest


class Grid:
    """The ranks of a training. Every method is a collective, and with one rank the identity."""

    def __init__(self, n_ranks: int = 1, rank: int = 0) -> None:
        self.n_ranks, self.rank = n_ranks, rank

    @classmethod
    def of_ranks(cls) -> Grid:
        """All ranks that torch.distributed joins; one where it joins none."""
        return cls(distributed.world_size(), distributed.rank())

    @property
    def part(self) -> tuple[int, int]:
        """This rank's part of every batch: (which, of how many)."""
        return self.rank, self.n_ranks

    def sum(self, value: Tensor) -> Tensor:
        """Over all ranks, in place."""
        if self.n_ranks > 1:
            dist.all_reduce(value)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """Over all ranks, in place."""
        return self.sum(value).div_(self.n_ranks) if self.n_ranks > 1 else value

    def any(self, value: Tensor) -> Tensor:
        """Whether it is true on any rank, element by element."""
        return self.sum(value.to(torch.int32)) > 0 if self.n_ranks > 1 else value

    def smallest(self, value: float, device: torch.device) -> float:
        """The least of the ranks' values."""
        if self.n_ranks == 1:
            return value
        least = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return float(least)

    def from_first(self, values: Sequence[Tensor]) -> None:
        """Replace tensors by rank 0's, in place."""
        if self.n_ranks > 1:
            for value in values:
                dist.broadcast(value, src=0)

    def largest(self, values: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
        """`kernels.largest` of all ranks' tensors together: this rank's flat indices, the least value kept.

        A radix select: as positive floats sort like their bits, two histograms summed over the ranks (upper
        and lower 16 bits) give the n-th largest value exactly, whatever n is; of entries equal to it, those
        of lower ranks are kept first.
        """
        if self.n_ranks == 1:
            return largest(values, n, hint)
        flat = values.reshape(-1)
        survivors = (flat > max(hint, 0.0)).nonzero().squeeze(1)
        found = flat[survivors].float()
        bits = found.view(torch.int32)
        upper = self.sum(torch.bincount(bits >> 16, minlength=2**15))
        total = int(upper.sum())
        if total < n and hint > 0:
            return self.largest(values, n, 0.0)
        if total <= n:
            least = self.smallest(float(found.min()) if len(found) else torch.inf, values.device)
            return survivors, least if total else 0.0
        high, above = _bin_of(upper, n)
        inside = bits[bits >> 16 == high] & 0xFFFF
        low, above_inside = _bin_of(self.sum(torch.bincount(inside, minlength=2**16)), n - above)
        cut = (high << 16) | low
        equal = (bits == cut).nonzero().squeeze(1)
        counts = torch.zeros(self.n_ranks, dtype=torch.int64, device=values.device)
        counts[self.rank] = len(equal)
        before = int(self.sum(counts)[: self.rank].sum())
        kept = bits > cut
        kept[equal[: max(0, n - above - above_inside - before)]] = True
        return survivors[kept], float(torch.tensor(cut, dtype=torch.int32).view(torch.float32))


def _bin_of(histogram: Tensor, n: int) -> tuple[int, int]:
    """The bin that holds the n-th largest entry, and how many entries lie in the bins above it."""
    reached = histogram.flip(0).cumsum(0)
    place = int(torch.searchsorted(reached, n))
    found = len(histogram) - 1 - place
    return found, int(reached[place] - histogram[found])


ONE_RANK = Grid()
