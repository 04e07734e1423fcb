"""Intervals of shares and of their changes: published examples, coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mneme.stats.proportions import clopper_pearson, is_binary, paired_change, unpaired_change, wilson


def test_the_published_examples_of_the_unpaired_interval() -> None:
    # Newcombe 1998, table II, method 10: 10/10 against 0/10, and 0/10 against 0/10.
    assert unpaired_change(0.0, 1.0, 10) == pytest.approx((0.6075, 1.0), abs=5e-5)
    assert unpaired_change(0.0, 0.0, 10) == pytest.approx((-0.2775, 0.2775), abs=5e-5)


@pytest.mark.parametrize(
    ("n", "right", "turned"), [(8, 0.25, 0.1), (30, 0.0, 0.0), (30, 0.4, 0.3), (200, 0.6, 0.05)]
)
def test_the_paired_interval_covers_the_true_change(n: int, right: float, turned: float) -> None:
    rng, covered = np.random.default_rng(0), 0
    lost = (
        turned * right
    )  # of the right answers a share `turned` becomes wrong, of the wrong ones half of that right
    true = turned / 2 * (1 - right) - lost
    for _ in range(1000):
        base = (rng.random(n) < right).astype(float)
        flip = rng.random(n) < np.where(base == 1, turned, turned / 2)
        low, high = paired_change(base, np.where(flip, 1 - base, base))
        covered += low <= true <= high
    assert covered >= 930


def test_six_questions_that_both_get_wrong_leave_room() -> None:
    low, high = paired_change(np.zeros(6), np.zeros(6))
    assert low == -high and 0.1 < high < 0.5
    low, high = unpaired_change(0.0, 0.0, 6)
    assert low == pytest.approx(-high) and high > 0.2


def test_what_is_binary() -> None:
    assert (
        is_binary(np.array([0.0, 1.0]))
        and not is_binary(np.array([0.5]))
        and not is_binary(np.array([np.nan]))
    )


def test_an_exact_interval_ends_where_a_tail_holds_a_fortieth() -> None:
    low, high = clopper_pearson(3, 100)
    assert stats.binom.sf(2, 100, low) == pytest.approx(0.025, rel=1e-6)
    assert stats.binom.cdf(3, 100, high) == pytest.approx(0.025, rel=1e-6)
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_wilsons_interval_ends_where_the_score_test_starts_to_reject() -> None:
    for hits in (0, 3, 20):
        for end in wilson(hits, 20, 0.9):
            assert (hits / 20 - end) ** 2 == pytest.approx(
                stats.norm.ppf(0.95) ** 2 * end * (1 - end) / 20, abs=1e-9
            )
    assert np.isnan(wilson(0, 0)).all()
