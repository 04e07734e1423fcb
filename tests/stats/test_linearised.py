"""Linearised errors and p-values against plain sums and simulation."""

import numpy as np
import pytest
from scipy import stats

from mneme.stats.linearised import half_width, p_no_larger
from mneme.stats.moments import covariance_of_sums


def p_of(bottom, top, r):
    totals = np.stack([bottom.sum(1), top.sum(1)])
    squares = np.stack([(bottom * bottom).sum(1), (bottom * top).sum(1), (top * top).sum(1)])
    n = np.full(len(bottom), bottom.shape[1])
    return p_no_larger(totals[1], totals[0], squares[2], covariance_of_sums(totals, squares, n), n, r)


def test_the_half_width_is_that_of_the_residuals():
    x, y = np.random.default_rng(0).gamma(3, 1, (2, 8))
    r = y.sum() / x.sum()
    residual = y - r * x
    n = x.sum() ** 2 / (x * x).sum()
    expected = stats.t.ppf(0.95, n - 1) * np.sqrt(n / (n - 1) * (residual**2).sum()) / x.sum()
    sums = (np.array((y * y).sum()), np.array((x * y).sum()), np.array(x.sum()), np.array((x * x).sum()))
    assert half_width(np.array(r), *sums, np.array(8), 0.9) == pytest.approx(expected)


def test_one_unit_has_no_width():
    one = np.ones(1)
    assert np.isnan(half_width(one, one, one, one, one, np.array([1])))


@pytest.mark.parametrize("spread", [0.3, 1.5, 2.5])
@pytest.mark.parametrize("units", [4, 15, 60])
def test_intervals_cover_the_ratio_however_unequal_the_units(units, spread):
    rng = np.random.default_rng(2)
    x = np.exp(rng.normal(0, spread, (4000, units)))
    y = x * (1.5 + 0.3 * rng.normal(size=x.shape))
    r, sums = y.sum(1) / x.sum(1), ((y * y).sum(1), (x * y).sum(1), x.sum(1), (x * x).sum(1))
    half = half_width(r, *sums, np.full(4000, units))
    assert (np.abs(r - 1.5) <= half).mean() > 0.925


@pytest.mark.parametrize("units", [4, 15, 60])
def test_p_values_are_valid_where_the_ratio_is_the_bound(units):
    rng = np.random.default_rng(1)
    weight = np.exp(rng.normal(0, 0.7, (4000, units)))
    bottom, top = (weight + np.sqrt(weight) * rng.normal(0, 0.3, weight.shape) for _ in range(2))
    p = p_of(bottom, 1.5 * top, 1.5)
    assert 0.01 < (p < 0.05).mean() < 0.065


def test_units_of_unequal_size_do_not_hide_a_constant_ratio():
    bottom = np.exp(np.random.default_rng(2).normal(0, 2, (20, 30)))
    assert (p_of(bottom, 2 * bottom, 1.9) < 1e-6).all()
    assert (p_of(bottom, 2 * bottom, 2.1) > 0.5).all()


def test_nothing_on_top_is_never_larger_and_one_unit_says_nothing():
    assert p_of(np.ones((1, 5)), np.zeros((1, 5)), 1.0) == 1
    assert np.isnan(p_of(np.ones((1, 1)), np.ones((1, 1)), 1.0))
