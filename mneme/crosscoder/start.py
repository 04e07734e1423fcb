"""The directions a training starts from: centroids of the pairs of activations, drawn pairs, or random ones.

Independent trainings that start from k-means find far more of each other's latents again than from random directions
(docs/decisions/dictionary-start.md).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mneme.crosscoder.config import Init
from mneme.crosscoder.grid import ONE_RANK, Grid
from mneme.crosscoder.init import random_directions
from mneme.crosscoder.kmeans import directions, spherical_kmeans

_log = logging.getLogger(__name__)

STEPS = 4  # of k-means
SHARE = 0.2
"""Of the training's tokens: what k-means reads. A token costs it about half of what it costs training."""
FIRST_PASS = 1_000_000  # the passes' seeds follow those of as many epochs of training
_A_CENTROID = 32  # points a step: more find no better centroids

Batches = Callable[[int, bool], Iterator[Tensor]]
"""(seed, whole) -> one pass of normalised (B, 2d) batches of shuffled tokens: this rank's shares of them,
or all of them on every rank."""


def start_directions(
    init: Init,
    batches: Batches,
    n_latents: int,
    n_tokens: int,
    batch: int,
    sample: Tensor,
    bias: Tensor,
    generator: torch.Generator,
    *,
    bf16: bool = False,
    grid: Grid = ONE_RANK,
) -> Tensor:
    """(F, 2d) unit rows of this rank's latents. Collective.

    n_tokens: that training reads, repeated ones counted. batch: tokens of a batch over all ranks. sample: (n, 2d)
    normalised, the same on all ranks. Where there are fewer tokens with a direction than latents, the latents left over
    get random ones.
    """
    own, seed = grid.own_latents(n_latents), generator.initial_seed() * 1_000_003 + FIRST_PASS
    random = random_directions(n_latents, len(bias) // 2, generator, own).to(bias.device)
    if init == "random":
        return random
    first, n_drawn = drawn(batches(seed, True), n_latents, bias, random, own)
    if n_drawn < n_latents:
        _log.warning(
            "%d tokens have a direction: the other %d of %d latents start from random ones; read more text, or lower"
            " crosscoder.n_latents",
            *(n_drawn, n_latents - n_drawn, n_latents),
        )
    n_points = min(_A_CENTROID * n_latents, int(SHARE * n_tokens) // STEPS)
    if init == "kmeans" and n_points < n_latents:
        _log.warning(
            "training of %d tokens is too short for k-means of %d latents (%d would do): they start from drawn tokens",
            *(n_tokens, n_latents, math.ceil(n_latents * STEPS / SHARE)),
        )
    if init == "data" or n_points < n_latents:
        return first
    passes = (batches(seed + i, False) for i in itertools.count(1))
    points = (directions(x - bias) for x in itertools.chain.from_iterable(passes))
    steps = (itertools.islice(points, max(1, n_points // batch)) for _ in range(STEPS))
    reserve = directions(sample - bias)
    return spherical_kmeans(steps, first, reserve, random, bf16=bf16, grid=grid)


def drawn(
    batches: Iterator[Tensor], n_latents: int, bias: Tensor, fallback: Tensor, own: slice
) -> tuple[Tensor, int]:
    """(F, 2d) directions of the first points of one pass that have one, and how many there are of all latents; where
    there are too few, fallback's rows.
    """
    found, done = fallback.clone(), 0
    for x in batches:
        points = directions(x - bias)[: n_latents - done]
        at = torch.arange(done, done + len(points), device=found.device) - own.start
        mine = (at >= 0) & (at < len(found))
        found[at[mine]] = points[mine]
        done += len(points)
        if done == n_latents:
            break
    return found, done
