"""Numbers and hostile text."""

from __future__ import annotations

import html
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mneme.report import format


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (-12.345, "−12.3"),
        (12345.6, "12,346"),
        (1.23e-6, "1.2e−6"),
        (2.5e7, "2.5e7"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert format.number(value) == shown


@given(st.floats(min_value=1e-4, max_value=999_999))
def test_a_shown_number_is_within_half_a_unit_of_its_third_digit(value: float) -> None:
    read = float(format.number(value).replace(",", ""))
    assert (
        abs(read - value)
        <= 0.5 * 10 ** max(math.floor(math.log10(value)) - 2, -7) * 1.001 + (value >= 1000) * 0.5
    )


def test_an_interval_shares_its_decimals() -> None:
    assert format.interval(0.945, 0.865, 1.031) == "0.94 [0.86, 1.03]"
    assert format.interval(0.5, -0.25, 0.75, "nats", signed=True) == "+0.500 [−0.250, +0.750] nats"
    assert format.interval(0.5, None, math.nan) == "0.500"
    assert format.interval(None, 0.1, 0.2) == "–"


def test_shares_counts_and_times_have_their_units() -> None:
    assert format.percent(0.1234) == "12.3 %"
    assert format.percent(0.00012) == "0.012 %"
    assert format.count(1234567) == "1,234,567"
    assert format.with_unit(0.82, "share") == "82.0 %"
    assert format.with_unit(0.203, "share of tokens") == "20.3 % of tokens"
    assert format.with_unit(0.5, None) == "0.500"
    assert format.decimals(-0.256) == "−0.26"
    assert format.with_unit(32.4, "latents") == "32.4 latents"
    assert format.duration(3_725) == "1 h 2 min"


@given(st.text(st.characters(codec=None), max_size=400))
def test_visible_text_holds_no_invisible_characters(text: str) -> None:
    shown = format.visible(text, 50)
    assert len(shown) <= 50
    kinds = {unicodedata.category(c) for c in shown}
    assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_invisible_characters_become_signs() -> None:
    assert format.visible("a\u202eb\u200bc\nd\x1b") == "a⟨U+202E⟩b⟨U+200B⟩c↵d⟨U+001B⟩"


def test_piled_up_combining_marks_are_cut() -> None:
    assert format.visible("e" + "\u0301" * 50) == "e" + "\u0301" * 3


def test_a_long_token_is_cut() -> None:
    assert format.visible("x" * 10_000, 40) == "x" * 39 + "…"


@given(st.text(max_size=60))
def test_markdown_escapes_are_reversible_and_leave_nothing_active(text: str) -> None:
    shown = format.visible(text)
    escaped = format.markdown(text)
    assert html.unescape(escaped).replace("\\\\", "\0").replace("\\", "").replace("\0", "\\") == shown
    rest = escaped.replace("\\\\", "")
    for character in "`*_[]()#|~$:@!{}+-=^":
        assert rest.count(character) - rest.count("\\" + character) == (
            escaped.count("&#x27;") if character == "#" else 0
        )
    assert not set("<>\"'") & set(escaped)


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted(start: str) -> None:
    assert format.cell(start + "cmd|' /C calc'!A0").startswith("'" + start)
    assert format.cell("plain") == "plain"


def test_an_end_that_nothing_bounds_is_told_as_undetermined() -> None:
    assert format.bounded(1.2, 0.9, 1.5) == "+1.20 [+0.90, +1.50]"
    assert format.bounded(3.9, 3.1, None) == "+3.90 [+3.10, undetermined]"
    assert format.bounded(-3.9, None, -3.1) == "−3.90 [undetermined, −3.10]"
    assert format.bounded(0.1, None, None) == "+0.100, interval undetermined"
    assert format.bounded(None, None, None) == format.ABSENT
