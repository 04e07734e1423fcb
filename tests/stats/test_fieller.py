"""Fieller's intervals against the t-test that they invert."""

import numpy as np
import pytest
from scipy import stats

from mneme.stats.fieller import magnitude_interval, ratio_interval
from mneme.stats.moments import covariance_of_sums


def of_tables(bottom, top, level=0.95):
    """Of tables (F, D)."""
    totals = np.stack([bottom.sum(1), top.sum(1)])
    squares = np.stack([(bottom * bottom).sum(1), (bottom * top).sum(1), (top * top).sum(1)])
    n = np.full(len(bottom), bottom.shape[1])
    return magnitude_interval(totals, covariance_of_sums(totals, squares, n), n, level)


def test_the_interval_is_the_set_of_ratios_that_a_t_test_keeps():
    rng = np.random.default_rng(0)
    bottom, top = rng.gamma(4, 1, 12), rng.gamma(2, 1, 12)
    for level in (0.8, 0.95):
        low, high = ratio_interval(top, bottom, level)
        for end in (low, high):
            assert stats.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(1 - level, rel=1e-6)
        assert stats.ttest_1samp(top - (low + high) / 2 * bottom, 0).pvalue > 1 - level


def test_many_at_once_are_one_after_the_other():
    rng = np.random.default_rng(1)
    bottom, top = rng.gamma(4, 1, (50, 9)), rng.gamma(2, 1, (50, 9))
    low, high = of_tables(bottom, top)
    for j in range(50):
        assert (low[j], high[j]) == pytest.approx(ratio_interval(top[j], bottom[j]), rel=1e-9)


def test_magnitudes_are_exactly_those_that_a_t_test_keeps_with_either_sign():
    # weak evidence of any kind: bounded, open above, down to 0, both
    rng = np.random.default_rng(2)
    bottom, top = rng.normal(0.6, 1, (200, 6)), rng.normal(0.6, 1, (200, 6))
    low, high = of_tables(bottom, top)
    assert (low == 0).any() and np.isinf(high).any() and (np.isfinite(high) & (low > 0)).any()
    for size in (0.0, 0.03, 0.3, 1.0, 3.0, 30.0):
        kept = np.zeros(200, bool)
        for r in (size, -size):
            kept |= stats.ttest_1samp(top - r * bottom, 0, axis=1).pvalue >= 0.05
        assert (kept == ((low <= size) & (size <= high))).all()


def test_where_the_bottom_may_be_nothing_there_is_no_interval():
    both, top = np.array([5.0, -4.0, 3.0, -5.0, 6.0, -2.0]), np.ones(6)
    assert ratio_interval(top, both) is None and ratio_interval(top[:1], top[:1]) is None
    assert np.isinf(of_tables(both[None], top[None])[1][0])


def test_nothing_is_known_of_one_unit_and_of_nothing():
    for table in (np.ones((1, 1)), np.zeros((1, 5))):
        assert np.isnan(of_tables(table, table)).all()


def test_intervals_hold_the_true_ratio_in_19_of_20_cases():
    rng = np.random.default_rng(3)
    bottom = rng.lognormal(0, 0.8, (2000, 15))
    low, high = of_tables(bottom, bottom * rng.normal(0.6, 0.3, (2000, 15)))
    assert 0.93 <= ((low <= 0.6) & (high >= 0.6)).mean() <= 0.99
