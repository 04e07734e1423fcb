"""Dead latents of a training that began with k-means start again, from what is badly reconstructed.

As k falls, a few in a hundred of the centroids lose every token to others, and AuxK brings few of them back. They get
the directions into which k-means divides the residuals of the tokens that are reconstructed worst.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mneme.crosscoder.codes import SparseCodes
from mneme.crosscoder.grid import Grid
from mneme.crosscoder.kernels import sparse_decode
from mneme.crosscoder.kmeans import directions, spherical_kmeans
from mneme.crosscoder.step import Rule, Weights, encode_dense

AT = (0.2, 0.3, 0.4, 0.5)
"""Shares of the steps after which they start again: k has fallen, the step is at its height."""
_STEPS = 3  # of k-means
_CHUNK = 1024  # tokens encoded at once


@torch.no_grad()
def restart_dead(
    weights: Weights, dead: Tensor, sample: Tensor, rule: Rule, state: dict[Tensor, Any], grid: Grid
) -> None:
    """Give dead latents new directions, at the mean length of the live ones, in place; forget Adam's means of them.

    dead (F,) bool, of this rank's latents; sample (n, D) normalised, the same on all ranks; state: the optimizer's.
    Collective.
    """
    everyone = grid.whole(dead)
    which = everyone.nonzero().squeeze(1)
    if not 0 < len(which) < len(everyone):
        return
    residual = torch.cat([_residual(weights, x, rule, grid) for x in sample.split(_CHUNK)])
    worst = residual.norm(dim=1).argsort(descending=True, stable=True)
    points = directions(residual[worst[: max(8 * len(which), len(worst) // 2)]])
    first = points[torch.linspace(0, len(points) - 1, min(len(which), len(points))).long().to(points.device)]
    found = (
        spherical_kmeans([[points]] * _STEPS, first, points, first, bf16=rule.bf16) if len(first) else first
    )
    grid.from_first([found])
    places = which[: len(found)] - grid.rank % grid.shards * len(dead)
    mine = (places >= 0) & (places < len(dead))
    place, found = places[mine], found[mine]
    n_live = (~everyone).sum()
    for part in (weights.enc, weights.dec):
        length = grid.total(part.norm(dim=1)[~dead].sum()) / n_live
        part[place] = found * length
    weights.b_enc[place] = -(weights.enc[place] @ weights.b_dec)
    for weight in weights[:3]:
        for value in state.get(weight, {}).values():
            if value.ndim > 0:
                value[place] = 0


def _residual(weights: Weights, x: Tensor, rule: Rule, grid: Grid) -> Tensor:
    """(n, D): what each token's k strongest latents leave."""
    f = encode_dense(x, weights, rule).relu()
    kept = grid.top_of_rows(f * weights.norms().to(f.dtype), round(rule.k))
    row, latent = kept.nonzero(as_tuple=True)
    codes = SparseCodes(row, latent, f[row, latent].float())
    return x - grid.total(sparse_decode(codes, weights.dec, len(x))) - weights.b_dec
