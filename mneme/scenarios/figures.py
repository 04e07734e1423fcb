"""Figures of a scenario's result, as results.json holds it."""

from __future__ import annotations

from typing import Any

from mneme.effects.evaluate import NOT_BASELINES

HELD_OUT = ("rmu_law",)
"""Organisms made after the method was settled; the others had a part in choosing it."""


def score(result: dict[str, Any], method: str, metric: str, subset: str = "all") -> float | None:
    """One figure of a result's evaluation; None where it is undefined or was not measured."""
    for row in result.get("evaluation", []):
        if (row["method"], row["metric"], row["subset"]) == (method, metric, subset):
            return None if row["value"] is None else float(row["value"])
    return None


def best_baseline(result: dict[str, Any], metric: str, subset: str = "all") -> tuple[str, float] | None:
    """(method, value) of the best baseline; None where there is none."""
    rows = [r for r in result.get("evaluation", []) if (r["metric"], r["subset"]) == (metric, subset)]
    baselines = [
        (r["value"], r["method"]) for r in rows if r["method"] not in NOT_BASELINES and r["value"] is not None
    ]
    return max(baselines)[::-1] if baselines else None
