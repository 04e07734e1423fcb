"""The weakest channel of each category, and what the run as a whole could have found."""

from __future__ import annotations

import math

import pandas as pd

from mneme.power.summary import COLUMNS, middle, overall, weakest


def table(*rows: tuple) -> pd.DataFrame:
    """Rows of (category, channel, at_margin)."""
    frame = pd.DataFrame(rows, columns=["category", "channel", "at_margin"])
    return frame.assign(
        unit="share", margin=0.1, minimum_detectable=0.2, n_cases=10, reason=None, text_needed=2.0
    )[list(COLUMNS)]


def test_a_category_has_the_power_of_its_weakest_needed_channel() -> None:
    power = table(
        (None, "latents", 0.1),
        ("b", "latents", 0.9),
        ("b", "nll", 0.85),
        ("b", "activations", 0.0),  # no verdict rests on it
        ("a", "latents", 0.3),
        ("a", "nll", 1.0),
    )
    found = weakest(power)
    assert list(found.columns) == list(COLUMNS)
    assert found[["category", "channel", "at_margin"]].values.tolist() == [
        ["a", "latents", 0.3],
        ["b", "nll", 0.85],
    ]
    assert overall(power) == {"n_categories": 2, "n_enough": 1, "share": 0.5, "at_margin": 0.575}
    asked = weakest(power, needs=("activations",))
    assert asked.set_index("category")["at_margin"]["b"] == 0.0
    assert asked.set_index("category")["reason"]["a"] == "not measured"


def test_what_was_not_measured_is_weaker_than_any_power() -> None:
    power = table(("a", "latents", 0.0), ("a", "nll", None), ("b", "latents", 1.0))
    found = weakest(power).set_index("category")
    assert found["channel"]["a"] == "nll" and math.isnan(found["at_margin"]["a"])
    assert found["channel"]["b"] == "nll" and found["reason"]["b"] == "not measured"
    assert overall(power)["share"] == 0 and overall(power)["at_margin"] == 0


def test_a_run_without_categories_has_none() -> None:
    empty = table((None, "latents", 0.5))
    assert len(weakest(empty)) == 0
    assert math.isnan(overall(empty)["share"]) and overall(empty)["n_categories"] == 0


def test_the_text_needed_of_a_run_is_that_of_more_than_half_of_its_categories() -> None:
    assert middle(pd.Series([1.0, 2.0, 4.0, None])) == 4.0
    assert math.isnan(middle(pd.Series([1.0, 2.0, None, None])))
    assert math.isnan(middle(pd.Series([], dtype=float)))
