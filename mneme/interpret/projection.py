"""A map of the dictionary: UMAP of the decoder directions, one point a live latent.

Directions are those of both decoders joined end to end, scaled to length 1, so that the map shows what latents
write and not how strongly. PCA to 50 dimensions first, their exact nearest neighbours, then UMAP (McInnes et
al., arXiv 1802.03426) started from the first two of them, with a fixed seed: one thread, the same map always.

umap-learn's steps are called by themselves: its front class would search neighbours approximately, which it
compiles for longer than an exact search takes here.

Above MAX_FITTED latents the layout is made of an even sample, and the others are placed at the weighted mean of
their nearest neighbours in it: the time then grows only with the search for those.
"""

from __future__ import annotations

import logging
import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from mneme._util.progress import NULL_PROGRESS, Progress

_log = logging.getLogger(__name__)

COMPONENTS = 50
MAX_FITTED = 20_000
_EPOCHS = 200
_MIN_DISTANCE = 0.1
_CHUNK = 2**24  # distances held at once: 64 MB
_PLACED_BY = 5  # fitted neighbours that place a latent outside the sample


def project_latents(
    decoders: torch.Tensor,
    live: np.ndarray,
    *,
    neighbours: int = 15,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """latent, umap_x, umap_y (float32) of all F latents; NaN for those not in `live`.

    `decoders` (2, F, d): raw.
    """
    xy = np.full((decoders.shape[1], 2), np.nan, dtype=np.float32)
    if len(live):
        with progress.task("map", total=1, unit="maps") as task:
            xy[live] = _layout(_components(decoders, live, seed), neighbours, seed)
            task.advance()
    return pd.DataFrame(
        {"latent": np.arange(len(xy), dtype=np.int32), "umap_x": xy[:, 0], "umap_y": xy[:, 1]}
    )


def _components(decoders: torch.Tensor, live: np.ndarray, seed: int) -> np.ndarray:
    """(L, <= 50) principal components of the unit directions."""
    directions = torch.cat([decoders[0, live], decoders[1, live]], dim=-1).float().cpu()
    directions = torch.nn.functional.normalize(directions, dim=-1)
    directions = directions - directions.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = min(COMPONENTS, *directions.shape)
        _, _, axes = torch.svd_lowrank(directions, q=wanted, niter=4)
    # Either sign is right: the same one always.
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
    return (directions @ axes).numpy()


def _layout(points: np.ndarray, neighbours: int, seed: int) -> np.ndarray:
    """(L, <= 50) -> (L, 2)."""
    n = len(points)
    if n <= max(neighbours, 5):  # too few for a neighbour graph: their components are the map
        return np.pad(points[:, :2], ((0, 0), (0, max(0, 2 - points.shape[1]))))
    if n <= MAX_FITTED:
        return _umap(points, neighbours, seed)
    fitted = np.sort(np.random.default_rng(seed).choice(n, MAX_FITTED, replace=False))
    layout = _umap(points[fitted], neighbours, seed)
    index, distance = _nearest(points, points[fitted], _PLACED_BY)
    weight = 1 / (distance + 1e-6)
    out: np.ndarray = (layout[index] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)
    out[fitted] = layout
    return out


def _umap(points: np.ndarray, neighbours: int, seed: int) -> np.ndarray:
    """(n, c) -> (n, 2): the neighbour graph, then its layout by sampled gradient steps."""
    umap_ = _umap_learn()
    index, distance = _nearest(points, points, neighbours)
    random = np.random.RandomState(seed)
    graph, _, _ = umap_.fuzzy_simplicial_set(
        points, neighbours, random, "euclidean", knn_indices=index.astype(np.int32), knn_dists=distance
    )
    curve = umap_.find_ab_params(1.0, _MIN_DISTANCE)
    start = points[:, :2] / max(float(np.abs(points[:, :2]).max()), 1e-12) * 10
    layout: np.ndarray
    layout, _ = umap_.simplicial_set_embedding(
        points, graph, 2, 1.0, *curve, 1.0, 5, _EPOCHS, start.astype(np.float32), random,
        "euclidean", {}, densmap=False, densmap_kwds={}, output_dens=False,
    )  # fmt: skip
    return layout


@cache
def _umap_learn() -> Any:
    """umap-learn's steps, whose compiled loops are kept on disk: it compiles them anew in each process, for 20 s."""
    with warnings.catch_warnings():
        # Of its optional parametric variant, which isn't used.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        from umap import layouts, umap_
    loops = [umap_.smooth_knn_dist, umap_.compute_membership_strengths, layouts.clip]
    loops.append(getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None))
    for loop in loops:
        try:
            loop.enable_caching()
        except (AttributeError, RuntimeError) as error:
            # Neither the package's folder nor the user's cache can be written, or it is not there.
            _log.debug("a loop of umap-learn is compiled again in each process: %s", error)
    return umap_


def _nearest(points: np.ndarray, others: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (L, n) of the nearest of `others`; a point that is among them counts."""
    theirs = torch.from_numpy(others)
    size = max(1, _CHUNK // len(others))
    found = [
        torch.cdist(part, theirs).topk(n, largest=False) for part in torch.from_numpy(points).split(size)
    ]
    return torch.cat([f.indices for f in found]).numpy(), torch.cat([f.values for f in found]).numpy()
