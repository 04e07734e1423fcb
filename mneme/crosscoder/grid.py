"""How the ranks share a training step: a grid of tokens by latents (data by tensor parallel).

Each row of the grid takes an equal share of every batch's tokens, each column an equal share of the latents
(one column, unless the latents are too many for a device). What a batch decides as a whole (which pairs are
active, the reconstruction, the loss, the gradients, AuxK's variance) is summed over ranks, so that one process
would have made the same step. Ranks of one row follow each other: they talk most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from mneme._util import distributed
from mneme._util.errors import ConfigError
from mneme.crosscoder.kernels import guess_hint, largest, largest_products, positions_above

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from mneme.crosscoder.config import CrosscoderConfig


def check_ranks(config: CrosscoderConfig, n_latents: int, n_tokens: int) -> None:
    """Raises ConfigError where the processes that torchrun started can't share this training."""
    n, shards = distributed.world_size(), config.latent_shards
    if n == 1:
        return
    _check_processes(n, shards)
    _check_latents(n_latents, shards)
    batch = min(config.batch_size, n_tokens)
    if batch < n // shards:
        raise ConfigError(
            f"a batch of {batch} tokens has none for some of the {n // shards} processes: raise"
            " crosscoder.batch_size, give more text or start fewer"
        )


def _check_processes(n: int, shards: int) -> None:
    if n % shards:
        raise ConfigError(f"crosscoder.latent_shards = {shards} does not divide the {n} processes")


def _check_latents(n_latents: int, shards: int) -> None:
    if n_latents % shards:
        raise ConfigError(f"crosscoder.latent_shards = {shards} does not divide {n_latents} latents")


class Grid:
    """The ranks of a training. Methods are collectives unless said otherwise, and with one rank the identity."""

    def __init__(
        self, n_ranks: int = 1, rank: int = 0, shards: int = 1, mesh: DeviceMesh | None = None
    ) -> None:
        self.n_ranks, self.rank, self.shards, self.mesh = n_ranks, rank, shards, mesh
        self.n_parts = n_ranks // shards

    @classmethod
    def of_ranks(cls, shards: int = 1) -> Grid:
        """All ranks that torch.distributed joins, `shards` of them a copy of the latents; else one rank.

        Raises ConfigError when the ranks can't be divided so.
        """
        n = distributed.world_size()
        if n == 1:
            return cls()
        _check_processes(n, shards)
        from torch.distributed.device_mesh import init_device_mesh

        device = "cuda" if torch.cuda.is_available() else "cpu"
        mesh = init_device_mesh(device, (n // shards, shards), mesh_dim_names=("tokens", "latents"))
        return cls(n, distributed.rank(), shards, mesh)

    # what is whose: no collectives

    @property
    def part(self) -> tuple[int, int]:
        """This rank's part of every batch: (which, of how many)."""
        return self.rank // self.shards, self.n_parts

    def own_latents(self, n_latents: int) -> slice:
        """This rank's latents of so many. Raises ConfigError when they can't be divided evenly."""
        _check_latents(n_latents, self.shards)
        return distributed.share(n_latents, (self.rank % self.shards, self.shards))

    # over one side of the grid

    def mean(self, value: Tensor) -> Tensor:
        """Over the ranks that have other tokens, in place."""
        return self._sum_along("tokens", value).div_(self.n_parts) if self.n_parts > 1 else value

    def fired(self, value: Tensor) -> Tensor:
        """Whether it is true on any rank that has other tokens, element by element."""
        return self._sum_along("tokens", value.to(torch.int32)) > 0 if self.n_parts > 1 else value

    def total(self, value: Tensor) -> Tensor:
        """Sum over the ranks that have other latents, in place."""
        return self._sum_along("latents", value) if self.shards > 1 else value

    def joined(self, value: Tensor) -> Tensor:
        """`total`, through which gradients flow to this rank's own part."""
        if self.shards == 1:
            return value
        own = value.detach()
        return value + (self.total(own.clone()) - own)

    def whole(self, value: Tensor) -> Tensor:
        """The (F, ...) tensor of which each rank has its latents' rows."""
        if self.shards == 1 or self.mesh is None:
            return value
        from torch.distributed.tensor import DTensor, Shard  # two seconds to import, for the few that need it

        return DTensor.from_local(value, self.mesh["latents"], [Shard(0)]).full_tensor()

    def top_of_rows(self, values: Tensor, k: int) -> Tensor:
        """Bool (B, F of this rank): the k largest positive entries of each row over all latents."""
        if self.shards == 1 and k >= values.shape[1]:
            return values > 0
        value, latent = values.topk(min(k, values.shape[1]), dim=1, sorted=False)
        kept = value > 0
        if self.shards > 1 and self.mesh is not None:
            padded = torch.nn.functional.pad(value, (0, k - value.shape[1]))
            parts = [torch.empty_like(padded) for _ in range(self.shards)]
            dist.all_gather(parts, padded.contiguous(), group=self.mesh.get_group("latents"))
            best = torch.cat(parts, dim=1).topk(k, dim=1).indices - self.rank % self.shards * k
            mine = torch.zeros(len(values), k + 1, dtype=torch.bool, device=values.device)
            mine.scatter_(1, torch.where((best >= 0) & (best < k), best, k), True)  # column k: other ranks'
            kept &= mine[:, : value.shape[1]]
        return torch.zeros_like(values, dtype=torch.bool).scatter_(1, latent, kept)

    def _sum_along(self, side: str, value: Tensor) -> Tensor:
        assert self.mesh is not None
        dist.all_reduce(value, group=self.mesh.get_group(side))
        return value

    # over all ranks

    def sum(self, value: Tensor) -> Tensor:
        """Over all ranks, in place."""
        if self.n_ranks > 1:
            dist.all_reduce(value)
        return value

    def any(self, value: Tensor) -> bool:
        """Whether it is true on any rank."""
        return bool(self.sum(value.to(torch.int32)) > 0)

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

    def largest_products(self, pre: Tensor, norms: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
        """`kernels.largest_products` of all ranks' tensors together."""
        if self.n_ranks == 1:
            return largest_products(pre, norms, n, hint)
        norms = norms.to(pre.dtype)
        if hint <= 0:
            hint = self.smallest(guess_hint(pre, norms, n // self.n_ranks), pre.device)
        return self.largest(pre * norms, n, hint)

    def largest(self, values: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
        """`kernels.largest` of all ranks' tensors together: this rank's flat indices, the least value kept.

        A radix select: as positive floats sort like their bits, two histograms summed over the ranks (upper
        and lower 16 bits) give the n-th largest value exactly, whatever n is; of entries equal to it, those
        of lower ranks are kept first.
        """
        if self.n_ranks == 1:
            return largest(values, n, hint)
        flat = values.reshape(-1)
        survivors = positions_above(flat, max(hint, 0.0))
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
