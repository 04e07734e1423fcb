"""docs/results.json and docs/results.md from the scenarios' results: every figure, the floors, and what failed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mneme._util.files import write_text
from mneme.scenarios.figures import HELD_OUT, best_baseline, score
from mneme.scenarios.page import markdown

FLOORS = {
    "unlearning_accuracy": 0.90,
    "unlearning_auroc": 0.93,
    "spearman_outside_intended_above_best_baseline": 0.0,
    "unlearning_accuracy_without_the_held_out": 0.90,
    "unlearning_auroc_without_the_held_out": 0.93,
    "spearman_outside_intended_above_best_baseline_without_the_held_out": 0.0,
    "null_categories_without_false_alarm": 0.95,
    "direction_of_degraded": 0.90,
}


def write_results(
    results: Sequence[dict[str, Any]], folder: str | Path, missing: Sequence[str] = ()
) -> dict[str, Any]:
    """Write results.json and results.md into `folder`; returns the JSON's content.

    missing: jobs of the list that were not run.
    """
    whole = {
        "benchmark": "scenarios",
        "machine": machine(),
        "results": list(results),
        "missing": list(missing),
        "floors": floors(results),
    }
    write_text(Path(folder) / "results.json", json.dumps(whole, indent=1) + "\n")
    write_text(Path(folder) / "results.md", markdown(whole))
    return whole


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The results in `folder`'s results.json that did not fail; none where it can't be read."""
    try:
        whole = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        return [result for result in whole["results"] if "error" not in result]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "system": platform.system(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def floors(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each floor with its value, the mean over the scenarios and seeds it is about; null where none was run."""
    rmu = [r for r in results if "error" not in r and r["scenario"].startswith("rmu_")]
    nulls = [r for r in results if "error" not in r and r["kind"] == "null"]
    values = {
        f"{name}{which}": [figure(r) for r in mine]
        for which, mine in (
            ("", rmu),
            ("_without_the_held_out", [r for r in rmu if r["scenario"] not in HELD_OUT]),
        )
        for name, figure in _OF_UNLEARNING.items()
    } | {
        "null_categories_without_false_alarm": [1 - r["called"] / max(r["categories"], 1) for r in nulls],
        "direction_of_degraded": [score(r, "crosscoder", "direction") for r in rmu],
    }
    found = {}
    for name, floor in FLOORS.items():
        known = [v for v in values[name] if v is not None]
        value = float(np.mean(known)) if known else None
        met = None if value is None else value > floor if floor == 0 else value >= floor
        found[name] = {"value": value, "floor": floor, "met": met}
    return found


def _lead(result: dict[str, Any]) -> float | None:
    """Spearman outside what was intended, above the best baseline's."""
    best = best_baseline(result, "spearman", "outside_intended")
    own = score(result, "crosscoder", "spearman", "outside_intended")
    return None if own is None or best is None else own - best[1]


_OF_UNLEARNING: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "unlearning_accuracy": lambda r: score(r, "crosscoder", "accuracy"),
    "unlearning_auroc": lambda r: score(r, "crosscoder", "auroc"),
    "spearman_outside_intended_above_best_baseline": _lead,
}
