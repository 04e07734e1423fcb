"""Predictions held against what was measured: hits and misses, and the crosscoder against its baselines."""

from __future__ import annotations

from collections.abc import Iterable

from mneme.effects.evaluate import CONSTANTS
from mneme.report.model import Comparison, Score


def measured_direction(change: float | None, low: float | None, high: float | None, margin: float) -> str:
    """degraded | improved | none, or '' where nothing was measured; without an interval the change itself counts."""
    if change is None:
        return ""
    if (change if low is None else low) > margin:
        return "degraded"
    return "improved" if (change if high is None else high) < -margin else "none"


def call(verdict: str, measured: str) -> str:
    """How a prediction fared; '' where nothing was measured.

    hit, false alarm or wrong direction of a predicted change; agreed none, or undecided of an uncertain one, where
    no change was measured; miss where one was that was not predicted.
    """
    if not measured:
        return ""
    if verdict in ("degraded", "improved"):
        return "hit" if measured == verdict else "false alarm" if measured == "none" else "wrong direction"
    if measured != "none":
        return "miss"
    return "agreed none" if verdict == "unaffected" else "undecided"


def compare(scores: Iterable[Score]) -> tuple[Comparison, ...]:
    """The crosscoder against the best baseline, for each metric and subset that has both.

    In every metric more is better. An oracle sees the benchmark and is no baseline; nor is, for recall, a constant
    that calls every category.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.value is not None:
            tables.setdefault((score.metric, score.subset), {})[score.method] = score.value
    found = []
    for (metric, subset), values in tables.items():
        baselines = {m: v for m, v in values.items() if not m.startswith(("crosscoder", "oracle"))}
        if metric == "recall":
            baselines = {m: v for m, v in baselines.items() if m not in CONSTANTS}
        if "crosscoder" in values and baselines:
            best = max(baselines, key=lambda m: baselines[m])
            found.append(Comparison(metric, subset, values["crosscoder"], best, baselines[best]))
    return tuple(found)
