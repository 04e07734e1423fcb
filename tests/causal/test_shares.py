"""Shares and their intervals."""

import math

import numpy as np
import pytest

from mneme.causal.shares import closed, mean, share


def test_a_share_is_what_is_gone_of_the_sum():
    before, n = np.array([4.0, 6.0, 5.0, 5.0, 4.5, 5.5]), np.full(6, 10)
    found = share(before, before * np.array([0.2, 0.3, 0.25, 0.25, 0.2, 0.3]), n, 0.01)
    assert found.value == pytest.approx(1 - (0.8 + 1.8 + 1.25 + 1.25 + 0.9 + 1.65) / 30)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(("factor", "value"), [(0.0, 1.0), (1.0, 0.0), (1.5, -0.5), (-0.5, 1.5)])
def test_shares_have_a_sign_and_may_pass_one(factor, value):
    before = np.array([-4.0, -6.0, -5.0, -5.0])
    assert share(before, factor * before, np.full(4, 10), 0.05).value == pytest.approx(value)


def test_nothing_is_told_of_a_distance_that_may_be_nothing():
    n, tiny, both = np.full(6, 100), np.full(6, 0.1), np.array([5.0, -4.0, 3.0, -5.0, 6.0, -2.0])
    assert math.isnan(share(tiny, tiny / 2, n, 0.01).value), "under a hundredth of a nat a token"
    assert math.isnan(share(both, both / 2, n, 0.001).value), "its sum is not sure to differ from 0"
    assert math.isnan(share(both[:1], both[:1], n[:1], 0.001).value), "one document"
    assert math.isnan(share(tiny[:0], tiny[:0], n[:0], 0.01).value)


def test_intervals_hold_the_truth_in_19_of_20_cases():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        before = rng.lognormal(0, 0.8, 15)
        found = share(before, before * rng.normal(0.6, 0.3, 15), np.ones(15), 0.01)
        held += math.isnan(found.value) or found.low <= 0.4 <= found.high
    assert 0.93 <= held / 2000 <= 0.99


def test_the_gain_over_a_control_is_the_difference_of_the_shares():
    rng = np.random.default_rng(2)
    before, n = rng.gamma(4, 1, 10), np.ones(10)
    after, control = before * rng.uniform(0, 0.5, 10), before * rng.uniform(0.5, 1, 10)
    gain = closed(before, control - after, n, 0.01)
    assert gain.value == pytest.approx(
        share(before, after, n, 0.01).value - share(before, control, n, 0.01).value
    )


def test_a_mean_weighs_documents_by_their_tokens():
    assert mean(np.array([2.0, 6.0]), np.array([10.0, 20.0])).value == pytest.approx(8 / 30)
