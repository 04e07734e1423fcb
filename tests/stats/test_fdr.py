"""q-values against the procedure they stand for."""

import numpy as np

from mneme.stats.fdr import false_discovery_q


def test_q_values_leave_undefined_ones_out():
    q = false_discovery_q(np.array([0.01, np.nan, 0.02, 0.9]))
    np.testing.assert_allclose(q, [0.03, np.nan, 0.03, 0.9])


def test_calling_what_lies_below_a_rate_is_the_step_up_procedure():
    p = np.random.default_rng(0).uniform(size=200) ** 2
    for rate in (0.05, 0.2, 0.5):
        passing = np.flatnonzero(np.sort(p) <= rate * np.arange(1, 201) / 200)
        expected = p <= np.sort(p)[passing[-1]] if len(passing) else np.zeros(200, bool)
        assert ((false_discovery_q(p) <= rate) == expected).all()


def test_without_p_values_there_are_none():
    assert np.isnan(false_discovery_q(np.full(3, np.nan))).all() and len(false_discovery_q(np.zeros(0))) == 0
