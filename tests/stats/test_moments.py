"""Covariances and effective numbers against their definitions."""

import numpy as np
import pytest

from mneme.stats.moments import covariance_of_sums, effective_number


def test_the_covariance_of_sums_is_the_number_times_that_of_units():
    x, y = np.random.default_rng(0).normal(3, 1, (2, 4, 7))
    found = covariance_of_sums(
        np.stack([x.sum(1), y.sum(1)]),
        np.stack([(x * x).sum(1), (x * y).sum(1), (y * y).sum(1)]),
        np.full(4, 7),
    )
    for j in range(4):
        (xx, xy), (_, yy) = 7 * np.cov(x[j], y[j])
        np.testing.assert_allclose(found[:, j], [xx, xy, yy])


def test_one_unit_has_no_covariance():
    assert np.isnan(covariance_of_sums(np.ones((2, 1)), np.ones((3, 1)), np.array([1]))).all()


def test_equal_units_count_in_full_and_one_large_one_alone():
    x = np.array([[2.0, 2.0, 2.0, 2.0], [100.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = effective_number(x.sum(1), (x * x).sum(1))
    assert found[:2] == pytest.approx([4, 1]) and np.isnan(found[2])
