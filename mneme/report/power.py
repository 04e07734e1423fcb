"""What the run could have found (table `power`), for the report."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mneme.power.summary import sentence, weakest
from mneme.report.format import ABSENT, cut, missing, number, percent
from mneme.store.queries import quality
from mneme.store.run import Run

COLUMNS = ("channel", "margin", "found at the margin", "smallest size found in 80 %")
CATEGORY_COLUMNS = (
    "category",
    "weakest channel",
    "found at the margin",
    "smallest size found in 80 %",
    "why not",
)
_TEXT = 200  # characters of a name


@dataclass(frozen=True)
class Channel:
    """A row of the table `power`."""

    category: str
    """the category's name; '' over all categories"""
    channel: str
    """latents | activations | nll"""
    unit: str
    margin: float | None
    """the size that the verdict's margin asks for"""
    minimum_detectable: float | None
    """smallest size found in 80% of injections; None: none of those tried"""
    at_margin: float | None
    """chance to find a change of the margin's size; None: not measured"""
    n_cases: int | None
    reason: str
    """why it was not measured; else ''"""


@dataclass(frozen=True)
class Power:
    """The positive control; empty where it was not made."""

    sentence: str
    channels: tuple[Channel, ...]
    """over all categories"""
    categories: tuple[Channel, ...]
    """each category's weakest channel, the least power first"""


def power(run: Run) -> Power:
    """What the run's table holds of it."""
    table = quality.power(run)
    if table.empty:
        return Power("", (), ())
    names = dict(zip(table["category"], table["name"], strict=True))
    least = weakest(table).sort_values("at_margin", kind="stable", na_position="first")
    return Power(
        sentence(table),
        tuple(_channel(row, "") for row in table[table["category"].isna()].to_dict("records")),
        tuple(_channel(row, str(names[row["category"]])) for row in least.to_dict("records")),
    )


def channel_rows(found: Power) -> list[tuple[str, ...]]:
    """The cells below COLUMNS."""
    return [(c.channel, number(c.margin, c.unit), percent(c.at_margin), _smallest(c)) for c in found.channels]


def category_rows(found: Power) -> list[tuple[str, ...]]:
    """The cells below CATEGORY_COLUMNS."""
    return [(c.category, c.channel, percent(c.at_margin), _smallest(c), c.reason) for c in found.categories]


def _smallest(row: Channel) -> str:
    if row.at_margin is None or row.reason:
        return ABSENT
    return (
        "none of those tried" if row.minimum_detectable is None else number(row.minimum_detectable, row.unit)
    )


def _channel(row: Mapping[Hashable, Any], name: str) -> Channel:
    def real(key: str) -> float | None:
        return None if missing(row[key]) else float(row[key])

    cases = real("n_cases")
    return Channel(
        category=cut(name, _TEXT),
        channel=str(row["channel"]),
        unit=str(row["unit"]),
        margin=real("margin"),
        minimum_detectable=real("minimum_detectable"),
        at_margin=real("at_margin"),
        n_cases=None if cases is None else int(cases),
        reason="" if pd.isna(row["reason"]) else cut(str(row["reason"]), _TEXT),
    )
