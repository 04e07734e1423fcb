from __future__ import annotations

import numpy as np
import pytest
import torch

from mneme.interpret import neighbours
from mneme.interpret.neighbours import nearest_latents

from .fakes import FakeCodes, random_codes

F = 30


@pytest.fixture(scope="module")
def codes() -> FakeCodes:
    return random_codes(2000, F, density=0.15)


@pytest.fixture(scope="module")
def decoders() -> torch.Tensor:
    return torch.randn(2, F, 6, generator=torch.Generator().manual_seed(0))


def similarities(codes: FakeCodes, decoders: torch.Tensor) -> dict[str, np.ndarray]:
    """Dense reference over live latents (the last is dead)."""
    stacked = np.concatenate([*decoders.numpy()[:, :-1]], axis=1)
    unit = stacked / np.linalg.norm(stacked, axis=1, keepdims=True)
    return {"decoder": unit @ unit.T, "firing": np.corrcoef((codes.dense[:, :-1] > 0).T)}


def test_neighbours_match_a_dense_reference(codes, decoders, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_CHUNK", 7 * F)
    frame = nearest_latents(decoders, codes, (codes.dense > 0).sum(0), n=4)
    for kind, matrix in similarities(codes, decoders).items():
        np.fill_diagonal(matrix, -2)
        expected = np.argsort(-matrix, axis=1)[:, :4]
        mine = frame[frame.kind == kind].sort_values(["latent", "rank"])
        assert np.array_equal(mine.neighbour.to_numpy().reshape(-1, 4), expected)
        values = np.take_along_axis(matrix, expected, 1).ravel()
        assert np.allclose(mine.similarity, values, atol=1e-5)


def test_dead_latents_are_nobodys_neighbour(codes, decoders) -> None:
    frame = nearest_latents(decoders, codes, (codes.dense > 0).sum(0), n=50)
    assert F - 1 not in set(frame.latent) | set(frame.neighbour)
    assert (frame.latent != frame.neighbour).all()


def test_a_sample_of_tokens_estimates_the_correlation(codes, decoders, monkeypatch) -> None:
    dense = codes.dense.copy()
    dense[:, 1] = dense[:, 0] * (np.arange(len(dense)) % 3 > 0)
    monkeypatch.setattr(neighbours, "_MAX_PAIRS", 2e4)
    frame = nearest_latents(decoders, FakeCodes(dense), (dense > 0).sum(0), n=1)
    mine = frame[(frame.kind == "firing") & (frame.latent == 0)].iloc[0]
    assert mine.neighbour == 1
    assert mine.similarity == pytest.approx(np.corrcoef(dense[:, 0] > 0, dense[:, 1] > 0)[0, 1], abs=0.15)


def test_a_single_live_latent_has_none(decoders) -> None:
    n_active = np.zeros(F, dtype=int)
    n_active[3] = 9
    assert nearest_latents(decoders, FakeCodes(np.zeros((4, F), np.float32)), n_active).empty
