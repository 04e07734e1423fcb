"""A map of the dictionary: UMAP of the decoder directions, one point a live latent.

Directions are those of both decoders laid end to end, scaled to length 1, so that the map shows what latents
write and not how strongly. PCA to 50 dimensions first, then UMAP (McInnes et al., arXiv 1802.03426) from the
first two of them, with a fixed seed: one thread, the same map every time.

Above MAX_FITTED latents UMAP is fitted on an even sample and the others are laid at the weighted mean of their
nearest fitted latents: time then grows only with the search for those.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mneme.progress import NULL_PROGRESS, Progress

COMPONENTS = 50
MAX_FITTED = 20_000
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
    fitted = np.arange(n)
    if n > MAX_FITTED:
        fitted = np.sort(np.random.default_rng(seed).choice(n, MAX_FITTED, replace=False))
    from umap import UMAP  # its import compiles for seconds

    start = points[fitted, :2]
    start = start / np.maximum(np.abs(start).max(), 1e-12) * 10  # as UMAP scales its own
    # n_jobs=1 is what a fixed seed makes of it anyway; given, nothing is warned of.
    model = UMAP(n_neighbors=neighbours, metric="euclidean", init=start, random_state=seed, n_jobs=1)
    layout = model.fit_transform(points[fitted])
    if len(fitted) == n:
        return layout
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=_PLACED_BY).fit(points[fitted]).kneighbors(points)
    weight = 1 / (distance + 1e-6)
    out = (layout[index] * (weight / weight.sum(1, keepdims=True))[..., None]).sum(1)
    out[fitted] = layout
    return out
