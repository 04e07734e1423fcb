"""Verdicts held against outcomes, in the words of mneme/_util/vocabulary.py."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from mneme.verdict.calls import call, calls_sentence, outcome, rates, with_calls


@pytest.mark.parametrize(
    ("verdict", "change", "low", "high", "measured", "said"),
    [
        ("degraded", 0.3, 0.2, 0.4, "worse", "confirmed"),
        ("degraded", 0.06, 0.04, 0.08, "open", "open"),
        ("degraded", 0.01, 0.0, 0.02, "same", "false"),
        ("degraded", -0.3, -0.4, -0.2, "better", "false"),
        ("improved", -0.3, -0.4, -0.2, "better", "confirmed"),
        ("unaffected", 0.3, 0.2, 0.4, "worse", "missed"),
        ("changed inside", -0.3, -0.4, -0.2, "better", "missed"),
        ("unaffected", 0.01, 0.009, 0.011, "same", "confirmed"),
        ("changed inside", 0.01, 0.009, 0.011, "same", "confirmed"),
        ("not known", 0.3, 0.2, 0.4, "worse", "undecided"),
        ("not known", 0.01, 0.009, 0.011, "same", "undecided"),
        # Security studies of the bundled pair: nothing of it lies within the margin for sure
        ("unaffected", 0.133, 0.009, 0.335, "open", "open"),
        ("improved", -0.06, None, None, "better", "confirmed"),
        (
            "unaffected",
            0.0,
            None,
            None,
            "open",
            "open",
        ),  # without an interval nothing is known to be the same
        ("degraded", None, None, None, "not measured", ""),
        ("degraded", math.nan, math.nan, math.nan, "not measured", ""),
    ],
)
def test_a_call_asks_for_the_measured_interval(verdict, change, low, high, measured, said) -> None:
    assert outcome(change, low, high, 0.05) == measured
    assert call(verdict, measured) == said


def test_precision_and_share_decided_are_told_together() -> None:
    calls = ["confirmed"] * 8 + ["false"] + ["missed"] + ["undecided"] * 6 + ["open"] * 4 + [""] * 3
    found = rates(calls)
    assert (found.measured, found.decided) == (20, 14)
    # Wilson's interval by its formula
    n, p, z = 10, 0.8, 1.959963984540054
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    assert found.precision == pytest.approx((0.8, low, high))
    assert found.share_decided[0] == pytest.approx(0.7)
    assert calls_sentence(calls) == (
        "Of 20 measured categories: 8 confirmed, 1 false, 1 missed, 6 undecided, 4 open;"
        f" 0.70 [{found.share_decided[1]:.2f}, {found.share_decided[2]:.2f}] decided,"
        f" precision 0.80 [{low:.2f}, {high:.2f}]."
    )
    assert calls_sentence(["", ""]) == ""
    assert calls_sentence(["undecided"]).endswith("0.00 [0.00, 0.79] decided.")


def test_every_row_gets_its_outcome_and_call() -> None:
    table = pd.DataFrame(
        {"verdict": ["degraded", "not known", "unaffected"], "change": [0.3, 0.3, None]}
    ).assign(change_low=[0.2, 0.2, None], change_high=[0.4, 0.4, None])
    found = with_calls(table, 0.05)
    assert found["measured"].tolist() == ["worse", "worse", "not measured"]
    assert found["call"].tolist() == ["confirmed", "undecided", None]
