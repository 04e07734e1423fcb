"""Bootstraps against plain loops and known distributions."""

import numpy as np
import pytest
from scipy import sparse, stats

from mneme.stats.bootstrap import (
    departures,
    exponential_weights,
    mean_interval,
    percentile_interval,
    poisson_weights,
    ratio_intervals,
    redraws,
    unseen_unit_intervals,
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


def test_unseen_unit_intervals_equal_a_loop_over_replicates():
    rng = np.random.default_rng(0)
    bottom = rng.integers(0, 20, (9, 3)).astype(float)
    top, pool = bottom * rng.normal(size=(9, 3)), rng.normal(size=12)
    found = unseen_unit_intervals(
        sparse.csr_array(top), sparse.csr_array(bottom), pool, replicates=60, level=0.9, seed=5
    )
    weights = poisson_weights(np.arange(9), 60, 5)
    generator = np.random.default_rng(5)
    exponential, chosen = generator.standard_exponential((3, 60)), generator.choice(pool, size=(3, 60))
    for c in range(3):
        size = (bottom[:, c] ** 2).sum() / bottom[:, c].sum()
        loop = []
        for r in range(60):
            own = [sum(weights[i, r] * x[i, c] for i in range(9)) for x in (top, bottom)]
            more = exponential[c, r] * size
            unseen = top[:, c].sum() / bottom[:, c].sum() + chosen[c, r]
            loop.append((own[0] + more * unseen) / (own[1] + more))
        assert found.value[c] == pytest.approx(top[:, c].sum() / bottom[:, c].sum())
        assert found.low[c] == pytest.approx(min(np.quantile(loop, 0.05), found.value[c]))
        assert found.high[c] == pytest.approx(max(np.quantile(loop, 0.95), found.value[c]))
    empty = sparse.csr_array((4, 2))
    nothing = unseen_unit_intervals(empty, empty, np.empty(0), replicates=20, level=0.95, seed=0)
    assert np.isnan(np.stack(nothing)).all()


def test_departures_are_from_the_column_that_a_unit_is_most_of():
    bottom = np.array([[4.0, 1, 0], [2, 0, 0], [0, 3, 1], [0, 0, 0]])
    top = bottom * np.array([[1.0, 7, 0], [4, 0, 0], [0, 5, 9], [0, 0, 0]])
    columns = top.sum(0) / bottom.sum(0)
    found = departures(sparse.csr_array(top), sparse.csr_array(bottom))
    np.testing.assert_allclose(found, [1 - columns[0], 4 - columns[0], 5 - columns[1]])


def test_intervals_cover_the_mean_of_few_documents_with_heavy_tails():
    """Documents' changes have tails of a t distribution of two degrees, one in ten four times as wide."""
    covered = []
    for size in (4, 6, 8, 12, 20):
        rng = np.random.default_rng(size)
        bottom = rng.integers(30, 150, (size, 600)).astype(float)  # a column an experiment: tokens a document
        apart = [0.1 * rng.standard_t(2, n) * rng.choice([1, 4], n, p=[0.9, 0.1]) for n in ((size, 600), 200)]
        rows = [sparse.csr_array(x) for x in (bottom * apart[0], bottom)]
        settings = {"replicates": 400, "level": 0.95, "seed": 1}
        found = ratio_intervals(*rows, **settings), unseen_unit_intervals(*rows, apart[1], **settings)
        covered.append([((each.low <= 0) & (each.high >= 0)).mean() for each in found])
    plain, unseen = np.mean(covered, axis=0)
    assert unseen > plain + 0.01 and unseen > 0.92 and np.min(covered, axis=0)[1] > 0.9
