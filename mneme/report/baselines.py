"""The crosscoder held against its baselines."""

from __future__ import annotations

from collections.abc import Iterable

from mneme.effects.evaluate import CONSTANTS
from mneme.report.model import Comparison, Score


def compare(scores: Iterable[Score]) -> tuple[Comparison, ...]:
    """The crosscoder against the best baseline, for each metric and subset that has both.

    In every metric more is better. An oracle sees the benchmark and is no baseline; nor is, for recall, a constant
    that calls every category.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.value is not None and not score.metric.startswith("precision_at"):
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
