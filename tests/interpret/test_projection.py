from __future__ import annotations

import numpy as np
import pytest
import torch

from mneme.interpret import projection
from mneme.interpret.projection import project_latents

pytestmark = pytest.mark.slow  # numba compiles UMAP for several seconds


@pytest.fixture(scope="module")
def clusters() -> tuple[torch.Tensor, np.ndarray]:
    """Three bundles of 30 directions, and a dead latent at the end."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 2, 1, 16, generator=generator)
    decoders = torch.cat([c + 0.2 * torch.randn(2, 30, 16, generator=generator) for c in centres], dim=1)
    return torch.cat([decoders, torch.zeros(2, 1, 16)], dim=1), np.repeat(np.arange(3), 30)


def apart(xy: np.ndarray, group: np.ndarray) -> bool:
    """Every point is nearer to its own group's centre than to another's."""
    centres = np.stack([xy[group == g].mean(0) for g in range(3)])
    return bool((np.linalg.norm(xy[:, None] - centres, axis=-1).argmin(1) == group).all())


def test_bundles_of_directions_are_islands_and_dead_latents_have_no_place(clusters) -> None:
    decoders, group = clusters
    frame = project_latents(decoders, np.arange(90), neighbours=10)
    assert frame.umap_x.dtype == np.float32 and np.isnan(frame.umap_x[90])
    assert apart(frame[["umap_x", "umap_y"]].to_numpy()[:90], group)


def test_the_same_seed_gives_the_same_map(clusters) -> None:
    one, other = (project_latents(clusters[0], np.arange(90), seed=4) for _ in range(2))
    assert one.equals(other)


def test_lengths_of_decoders_do_not_matter(clusters) -> None:
    decoders, group = clusters
    scaled = decoders * torch.linspace(0.1, 9, decoders.shape[1])[None, :, None]
    assert apart(project_latents(scaled, np.arange(90))[["umap_x", "umap_y"]].to_numpy()[:90], group)


def test_latents_outside_the_fitted_sample_land_in_their_bundle(clusters, monkeypatch) -> None:
    monkeypatch.setattr(projection, "MAX_FITTED", 45)
    frame = project_latents(clusters[0], np.arange(90), neighbours=8)
    assert apart(frame[["umap_x", "umap_y"]].to_numpy()[:90], clusters[1])


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_handful_of_latents_is_placed_without_umap(clusters, n: int) -> None:
    frame = project_latents(clusters[0], np.arange(n))
    assert np.isfinite(frame.umap_x).sum() == n
