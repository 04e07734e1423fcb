"""Spherical k-means of pairs of activations: the directions a training starts from.

Each point is the normalised activations of both models, side by side, less the start's bias, at unit length. A step
gives every point to the centroid of largest cosine and moves each centroid to the direction of its points' sum. Points
are read in batches and none is kept: at its height a step holds two (F, D) tensors of float32, one in the products'
precision, and the cosines of a batch, which is less than a training step does.

Letters: D = 2d, F latents of this rank, B points of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mneme.crosscoder.grid import ONE_RANK, Grid
from mneme.crosscoder.kernels import latent_order, weighted_bags

_FLOATS = 2**22  # cosines held at once
_LEAST_POINTS = 256  # ... of at least so many points: reading the centroids is what costs with fewer
_SHORTEST = 1e-6  # of a point or a sum that has a direction
_SERVED = 0.99  # cosine from which on a point needs no centroid of its own


def directions(x: Tensor) -> Tensor:
    """(n, D) -> its rows at unit length, without those that have no direction."""
    length = x.norm(dim=1, keepdim=True)
    kept = length.squeeze(1) > _SHORTEST
    unit: Tensor = x / length.clamp_min(_SHORTEST)
    return unit[kept]


def points_at_once(n_latents: int) -> int:
    """Points whose cosines with all centroids are held together."""
    return max(_LEAST_POINTS, _FLOATS // n_latents)


def nearest(
    points: Tensor, centroids: Tensor, *, bf16: bool = False, grid: Grid = ONE_RANK
) -> tuple[Tensor, Tensor]:
    """Of each point the largest cosine (n,) and whose it is (n,): -1 where another rank's. Collective.

    points (n, D) and centroids (F, D) have unit rows. Of equal cosines the first counts.
    """
    precision = torch.bfloat16 if bf16 else torch.float32
    columns = centroids.to(precision).T
    parts = points.to(precision).split(points_at_once(len(centroids)))
    best = [(part @ columns).max(dim=1) for part in parts]
    cosine = torch.cat([value for value, _ in best]).float()
    latent = torch.cat([index for _, index in best])
    if grid.shards > 1:
        everyone = grid.whole(cosine[None])
        owner = everyone.argmax(dim=0)
        cosine, latent = everyone.amax(dim=0), torch.where(owner == grid.rank % grid.shards, latent, -1)
    return cosine, latent


def spherical_kmeans(
    steps: Iterable[Iterable[Tensor]],
    first: Tensor,
    reserve: Tensor,
    last_resort: Tensor,
    *,
    bf16: bool = False,
    grid: Grid = ONE_RANK,
) -> Tensor:
    """Centroids (F, D), unit rows, of this rank's latents. Collective.

    steps: for each the batches of this rank's points, (B, D) unit rows. first: (F, D) unit rows. reserve: (n, D) unit
    rows, the same on all ranks: a centroid that no point of a step is nearest to becomes the point of the reserve that
    is served worst; where none is left that is served badly, its row of last_resort (F, D).
    """
    centroids = first.clone()
    for batches in steps:
        total = torch.zeros_like(centroids)
        for points in batches:
            total += _sums(points, nearest(points, centroids, bf16=bf16, grid=grid)[1], len(centroids))
        if grid.n_parts > 1:
            total = grid.mean(total)
        length = total.norm(dim=1, keepdim=True)
        empty = length.squeeze(1) <= _SHORTEST
        centroids = torch.where(empty[:, None], centroids, total.div_(length.clamp_min(_SHORTEST)))
        _reseed(centroids, empty, reserve, last_resort, bf16, grid)
    return normalize(centroids, dim=1)


def _sums(points: Tensor, latent: Tensor, n_latents: int) -> Tensor:
    """(F, D): of each latent's points; sorted first, so that it is the same every time, on a GPU too."""
    row = (latent >= 0).nonzero().squeeze(1)
    latent = latent[row]
    order = latent_order(latent, n_latents)
    ones = torch.ones(len(row), device=points.device)
    return weighted_bags(row[order], latent[order], ones, points, n_latents)


def _reseed(
    centroids: Tensor, empty: Tensor, reserve: Tensor, last_resort: Tensor, bf16: bool, grid: Grid
) -> None:
    """Move the empty centroids, in place: the same ones whatever the number of ranks."""
    which = grid.whole(empty).nonzero().squeeze(1)  # of all latents
    if len(which) == 0:
        return
    centroids[empty] = last_resort[empty]
    cosine, _ = nearest(reserve, centroids, bf16=bf16, grid=grid)
    worst = cosine.argsort(stable=True)[: len(which)]
    worst = worst[cosine[worst] < _SERVED]
    places = which[: len(worst)] - grid.rank % grid.shards * len(centroids)
    mine = (places >= 0) & (places < len(centroids))
    centroids[places[mine]] = reserve[worst[mine]]
