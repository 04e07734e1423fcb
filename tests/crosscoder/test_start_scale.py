"""The length of the first weights: no other factor would reconstruct the sample better."""

import pytest
import torch

from mneme.crosscoder.init import initial_weights, random_directions, scaled_start, start_bias


@pytest.fixture
def sample():
    x = torch.randn(300, 2, 12, generator=torch.Generator().manual_seed(0)) + 0.5
    return x * 12**0.5 / x.square().sum(2).mean(0).sqrt()[:, None]


@pytest.fixture
def first(sample):
    directions = random_directions(40, 12, torch.Generator().manual_seed(1))
    return initial_weights(directions, start_bias(sample))


def error(weights, x, k):
    """Squared error of the reconstruction from each token's k strongest latents, in a plain loop."""
    total = 0.0
    for row in x:
        f = (weights.enc @ row + weights.b_enc).clamp(min=0)
        best = f.argsort(descending=True)[:k]
        x_hat = weights.b_dec + sum(float(f[j]) * weights.dec[j] for j in best)
        total += float((row - x_hat).square().sum())
    return total


@pytest.mark.parametrize("k", [8, 40])
def test_no_other_factor_reconstructs_better(sample, first, k):
    x = sample.flatten(1)
    scaled = scaled_start(first, x, k)
    assert torch.equal(scaled.enc, scaled.dec) and torch.equal(scaled.b_dec, first.b_dec)
    best = error(scaled, x, k)
    assert best < error(first, x, k)
    for factor in (0.9, 1.1):
        assert best < error(scaled._replace(dec=scaled.dec * factor), x, k)


def test_all_that_fire_count_without_k(sample, first):
    x = sample.flatten(1)
    assert torch.allclose(scaled_start(first, x, None).dec, scaled_start(first, x, 40).dec)


def test_where_nothing_fires_the_decoder_stays(sample, first):
    silent = first._replace(b_enc=torch.full((40,), -1e6))
    assert torch.equal(scaled_start(silent, sample.flatten(1), 8).dec, first.dec)
