"""How much text would do, from intervals and from the positive control."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mneme.verdict.more_text import Wanted, amount, for_intervals, for_power, root_law


def test_intervals_shrink_with_the_root_of_the_text() -> None:
    value, low = np.array([0.0, 0.025, 0.2, np.nan]), np.array([-0.1, 0.0, 0.0, np.nan])
    high = np.array([0.1, 0.075, 0.4, np.nan])
    assert root_law(value, low, high, 0.05).tolist() == [
        pytest.approx(4),
        pytest.approx(4),
        math.inf,
        math.inf,
    ]
    assert root_law(value[:1], low[:1] / 10, high[:1] / 10, 0.05).tolist() == [1.0]


def test_the_root_law_is_what_drawing_more_documents_gives() -> None:
    rng = np.random.default_rng(0)
    half = {n: 1.96 * np.std([rng.normal(0, 1, n).mean() for _ in range(4000)]) for n in (20, 80)}
    margin = float(half[80])
    needed = root_law(np.zeros(1), np.array([-half[20]]), np.array([half[20]]), margin)[0]
    assert needed == pytest.approx(80 / 20, rel=0.1)


def test_too_little_text_asks_for_documents_where_there_is_no_interval() -> None:
    effects = pd.DataFrame(
        {
            "nll_change": [0.0, np.nan],
            "nll_low": [-0.04, np.nan],
            "nll_high": [0.04, np.nan],
            "reason": ["too little text", "too little text"],
            "n_documents": [5.0, 1.0],
        }
    )
    # 0.2 of 5 documents are one: three times as many are three; 0.2 of one: fifteen times as many
    assert for_intervals(effects, 0.05, 3.0, 0.2).measured.tolist() == [pytest.approx(3), pytest.approx(15)]


def test_power_needs_both_channels_and_what_was_not_measured_has_no_amount() -> None:
    table = pd.DataFrame(
        [
            (None, "latents", 1.0),
            ("a", "latents", 2.0),
            ("a", "nll", 1.5),
            ("a", "activations", None),
            ("b", "latents", None),
        ],
        columns=["category", "channel", "text_needed"],
    )
    wanted = for_power(table)
    assert wanted.text.tolist() == [2.0, math.inf] and wanted.measured.tolist() == [1.5, math.inf]


def test_more_than_half_of_the_categories_decide() -> None:
    one = np.ones(4)
    assert amount([Wanted(np.array([1.0, 2, 4, 8]), one)], 1.0).text == 4
    assert amount([Wanted(np.array([1.0, 2, math.inf, math.inf]), one)], 1.0).text == math.inf
    assert amount([Wanted(np.array([1.0, 2, 4, math.inf]), one)], 1.0).text == 4
    nothing = amount([], 0.3)
    assert (nothing.text, nothing.share) == (1.0, 0.3)
