"""Bootstraps against plain loops and known distributions."""

import numpy as np
import pytest
from scipy import sparse, stats

from mneme.stats.bootstrap import (
    exponential_weights,
    mean_interval,
    percentile_interval,
    poisson_weights,
    ratio_intervals,
    redraws,
)


def test_poisson_weights_are_poisson_and_reproducible():
    weights = poisson_weights(np.arange(500), 200, seed=1)
    observed = np.bincount(weights.astype(int).reshape(-1), minlength=5)[:5] / weights.size
    np.testing.assert_allclose(observed, stats.poisson.pmf(np.arange(5), 1), atol=0.006)
    assert abs(np.corrcoef(weights[0], weights[1])[0, 1]) < 0.25
    assert (poisson_weights(np.array([7]), 200, 1) == weights[7]).all()
    assert (poisson_weights(np.array([7]), 200, 2) != weights[7]).any()


def test_exponential_weights_are_exponential_beside_the_sample_itself():
    weights = exponential_weights(200, 100, seed=3)
    assert weights.shape == (200, 101) and weights.dtype == np.float32 and (weights[:, 0] == 1).all()
    assert stats.kstest(weights[:, 1:].ravel(), "expon").pvalue > 0.01
    assert (weights == exponential_weights(200, 100, seed=3)).all()


def test_percentiles_leave_out_what_was_not_drawn():
    replicates = np.random.default_rng(0).normal(size=(3, 2, 100))
    replicates[0, 0, :49], replicates[0, 1, :50], replicates[2, 1] = np.nan, np.inf, np.nan
    low, high = percentile_interval(replicates, 0.9)
    assert np.isnan(low[0, 1]) and np.isnan(high[2, 1]), "half of them and more"
    for place in ((0, 0), (1, 0), (1, 1), (2, 0)):
        known = replicates[place][np.isfinite(replicates[place])]
        assert (low[place], high[place]) == pytest.approx(tuple(np.quantile(known, [0.05, 0.95])))
    assert [end.shape for end in percentile_interval(np.zeros((0, 5)))] == [(0,), (0,)]


def test_the_interval_of_a_mean_covers_it():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        values = rng.exponential(size=60)
        low, high = mean_interval(values, redraws(60, 300, rng), 0.9)
        covered += low <= 1 <= high
    assert 0.83 <= covered / 400 <= 0.95
    assert np.isnan(mean_interval(np.zeros(0), np.zeros((5, 0), int))).all()


def test_ratio_intervals_equal_a_loop_over_replicates():
    rng = np.random.default_rng(3)
    top, bottom = rng.uniform(size=(9, 2)), rng.uniform(0.5, 1, size=(9, 2))
    found = ratio_intervals(sparse.csr_array(top), sparse.csr_array(bottom), replicates=60, level=0.9, seed=5)
    draws = poisson_weights(np.arange(9), 60, 5)
    each = np.array([[(top[:, c] @ w) / (bottom[:, c] @ w) for w in draws.T] for c in (0, 1)])
    np.testing.assert_allclose(found.value, top.sum(0) / bottom.sum(0))
    np.testing.assert_allclose(found.low, np.quantile(each, 0.05, axis=1))
    np.testing.assert_allclose(found.high, np.quantile(each, 0.95, axis=1))


def test_of_nothing_there_is_no_ratio():
    empty = sparse.csr_array(np.zeros((4, 1)))
    found = ratio_intervals(empty, empty, replicates=20, level=0.95, seed=0)
    assert np.isnan([found.value, found.low, found.high]).all()
