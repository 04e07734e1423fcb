"""Measured capabilities for the report: right answers by category, apart from the NLL that is predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mneme._util.vocabulary import BETTER, OPEN, SAME, WORSE
from mneme.report.format import ABSENT, count, percent
from mneme.store.queries.outcomes import capabilities as read
from mneme.store.run import Run

COLUMNS = ("category", "benchmark", "base", "tuned", "change (95 %), points", "measured", "items")


@dataclass(frozen=True)
class Capability:
    """A row a category and benchmark whose outcomes are right and wrong answers."""

    category: str
    name: str
    benchmark: str
    accuracy_base: float | None
    accuracy_tuned: float | None
    accuracy_low: float | None
    """95% interval of the change of accuracy"""
    accuracy_high: float | None
    beats_chance: bool | None
    """whether the base does better than guessing, q <= 0.05; null: its chance level is not known"""
    measured: str
    """worse, better, same, open; not measured where the base guesses"""
    n: int | None


def capabilities(run: Run, margin: float) -> tuple[Capability, ...]:
    """Every category and capability benchmark. margin: of the change of the error rate, as a share."""
    return tuple(
        Capability(
            category=str(row["category"])[:200],
            name=str(row["name"])[:200],
            benchmark=str(row["benchmark"])[:200],
            accuracy_base=_real(row["accuracy_base"]),
            accuracy_tuned=_real(row["accuracy_tuned"]),
            accuracy_low=_real(row["accuracy_low"]),
            accuracy_high=_real(row["accuracy_high"]),
            beats_chance=True if row["proven"] else False if row["at_chance"] else None,
            measured=str(row["measured"]),
            n=None if (n := _real(row["n"])) is None else int(n),
        )
        for row in read(run, margin).astype(object).to_dict("records")
    )


def sentence(found: Sequence[Capability]) -> str:
    """`The base beats guessing in 22 of 27 areas; of these 3 worse, 0 better, 1 same, 18 open.`"""
    beats = [each.measured for each in found if each.beats_chance]
    told = ", ".join(f"{beats.count(word)} {word}" for word in (WORSE, BETTER, SAME, OPEN))
    said = (
        "Right answers to the same questions, another outcome than the next-token NLL that is predicted. The base beats"
        f" guessing in {len(beats)} of {len(found)} areas; of these {told}."
    )
    unknown = sum(each.beats_chance is None for each in found)
    return f"{said} Of {unknown} areas the chance level is not known." if unknown else said


def table(found: Sequence[Capability]) -> list[tuple[str, ...]]:
    """COLUMNS, of those areas where the base is not known to guess."""
    return [
        (
            each.name,
            each.benchmark,
            percent(each.accuracy_base),
            percent(each.accuracy_tuned),
            _change(each),
            each.measured,
            count(each.n),
        )
        for each in found
        if each.beats_chance is not False
    ]


def _change(each: Capability) -> str:
    """`-12 [-25, +1]`."""
    if each.accuracy_base is None or each.accuracy_tuned is None:
        return ABSENT
    change = f"{100 * (each.accuracy_tuned - each.accuracy_base):+.0f}"
    if each.accuracy_low is None or each.accuracy_high is None:
        return change
    return f"{change} [{100 * each.accuracy_low:+.0f}, {100 * each.accuracy_high:+.0f}]"


def _real(value: Any) -> float | None:
    return None if value is None or not math.isfinite(float(value)) else float(value)
