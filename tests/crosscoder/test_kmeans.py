"""The k-means a training starts from: against a plain Lloyd, on bad input, over ranks, and what it is good for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from crosscoder_world import planted
from ranks import run_ranks
from torch.nn.functional import normalize

from mneme._util.errors import ActivationError
from mneme._util.settings import from_mapping
from mneme.crosscoder import CrosscoderConfig, train_crosscoder
from mneme.crosscoder.kmeans import directions, nearest, spherical_kmeans
from mneme.crosscoder.source import TensorSource
from mneme.crosscoder.trainer import Trainer

CONFIG = CrosscoderConfig(init="kmeans", n_latents=48, k=3, batch_size=64, epochs=8, encoder_dtype="float32")
NONE = torch.zeros(0, 5)


def points(n: int = 90, width: int = 5, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def lloyd(x: torch.Tensor, centroids: torch.Tensor, steps: int) -> torch.Tensor:
    """One point after another."""
    for _ in range(steps):
        sums = torch.zeros_like(centroids)
        for p in x:
            cosines = [float(p @ c) for c in centroids]
            sums[cosines.index(max(cosines))] += p
        centroids = torch.stack([s / s.norm() for s in sums])
    return centroids


@pytest.mark.parametrize("batch", [90, 7])
def test_it_is_lloyds_iteration_on_the_sphere(batch):
    x = points()
    found = spherical_kmeans([x.split(batch)] * 4, x[:6], NONE, x[:6])
    assert torch.allclose(found, lloyd(x, x[:6], 4), atol=1e-5)


def test_products_in_bfloat16_find_nearly_the_same_owners():
    x, centroids = points(500, 32), points(20, 32, seed=1)
    exact, rough = nearest(x, centroids), nearest(x, centroids, bf16=True)
    assert (exact[1] == rough[1]).float().mean() > 0.9
    assert torch.allclose(exact[0], rough[0], atol=0.02)


def test_an_empty_centroid_becomes_the_point_that_is_served_worst():
    x = torch.eye(5)[:3]  # two centroids on the first, none on the third
    first = torch.stack([x[0], x[0], x[1]])
    found = spherical_kmeans([[x[:2]]], first, x, -torch.ones(3, 5))
    assert torch.equal(found, torch.stack([x[0], x[2], x[1]]))


def test_where_no_point_is_served_badly_the_last_resort_is_taken():
    x = torch.eye(5)[:1].repeat(40, 1)
    resort = points(4, seed=3)
    found = spherical_kmeans([[x]] * 3, x[:4], x, resort)
    assert torch.allclose(found, torch.cat([x[:1], resort[1:]]))


def test_points_without_a_direction_are_left_out():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(directions(x), torch.tensor([[0.6, 0.8]]))


# as the start of a training


def start(x: torch.Tensor, config: CrosscoderConfig) -> torch.Tensor:
    """(F, D): unit decoders before the first step."""
    return normalize(Trainer(TensorSource(x), config, None).weights.dec.detach(), dim=1)


def test_a_seed_decides_the_start():
    x = planted()
    assert torch.equal(start(x, CONFIG), start(x, CONFIG))
    assert not torch.equal(start(x, CONFIG), start(x, replace(CONFIG, seed=1)))


def test_two_seeds_agree_most_from_kmeans_least_from_random_directions():
    x = planted(4000)
    agreed = []
    for init in ("random", "data", "kmeans"):
        one, other = (start(x, replace(CONFIG, init=init, seed=seed)) for seed in (0, 1))
        agreed.append(float((one @ other.T).amax(dim=1).mean()))
    assert agreed == sorted(agreed) and agreed[2] > agreed[0] + 0.1


def test_planted_directions_are_nearer_to_the_start_than_from_random_directions():
    width, latents = 12, 24
    generator = torch.Generator().manual_seed(0)
    truth = normalize(torch.randn(latents, width, generator=generator), dim=1)
    x = planted(4000, width, latents)  # seed 0; the start has another
    centred = torch.cat([truth, truth], dim=1)
    centred[-1, width:] *= 2
    found = {}
    for init in ("random", "kmeans"):
        trainer = Trainer(TensorSource(x), replace(CONFIG, init=init, seed=7), None)
        raw = (trainer.weights.dec.detach().unflatten(1, (2, -1)) * trainer.scale[:, None]).flatten(1)
        found[init] = float((normalize(centred, dim=1) @ normalize(raw, dim=1).T).amax(dim=1).mean())
    assert found["kmeans"] > found["random"] + 0.05


def test_fewer_tokens_than_latents_leave_random_directions_to_the_rest():
    x = planted(20)
    config = replace(CONFIG, k=2)
    random = start(x, replace(config, init="random"))
    for init in ("data", "kmeans"):
        found = start(x, replace(config, init=init))
        assert torch.isfinite(found).all()
        assert torch.allclose(found[20:], random[20:], atol=1e-6)
        assert not torch.allclose(found[:20], random[:20], atol=0.1)


def test_it_is_told_where_there_is_too_little_text_for_kmeans(caplog):
    start(planted(20), replace(CONFIG, k=2))
    some, short = (record.getMessage() for record in caplog.records)
    assert "20 tokens have a direction: the other 28 of 48 latents start from random ones" in some
    assert "too short for k-means of 48 latents" in short and "they start from drawn tokens" in short
    caplog.clear()
    start(planted(4000), CONFIG)
    assert not caplog.records


@pytest.mark.parametrize("model", [0, 1])
def test_a_model_of_constant_activations_is_refused(model):
    x = planted(200)
    x[:, model] = 1.5
    with pytest.raises(ActivationError, match="constant"):
        train_crosscoder(x, CONFIG)


def test_duplicated_activations_give_different_latents():
    x = planted(4).repeat(200, 1, 1)
    found = start(x, CONFIG)
    assert torch.isfinite(found).all()
    assert (torch.triu(found @ found.T, 1) > 0.999).sum() == 0
    train_crosscoder(x, CONFIG)


def start_of(x: torch.Tensor, config: CrosscoderConfig) -> torch.Tensor:
    trainer = Trainer(TensorSource(x), config, None)
    return trainer.grid.whole(trainer.weights.dec.detach())


@pytest.mark.parametrize(("n_ranks", "shards"), [(2, 1), (2, 2)], ids=["tokens", "latents"])
def test_all_ranks_start_from_the_centroids_that_one_process_finds(n_ranks, shards):
    x = planted()
    first, second = run_ranks(start_of, x, replace(CONFIG, latent_shards=shards), n=n_ranks)
    assert torch.equal(first, second)
    assert torch.allclose(first, start_of(x, CONFIG), atol=1e-4)


def test_settings_written_before_there_was_a_choice_open():
    assert from_mapping(CrosscoderConfig, {"k": 4}, "crosscoder").init == "random"
