"""docs/results.json and docs/results.md from the scenarios' results: every figure, the floors, and what failed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mneme.effects.evaluate import NO_RIVALS
from mneme.store.files import write_text

_SHOWN = ("spearman", "auroc", "accuracy", "precision", "recall", "f1", "direction")
FLOORS = {
    "unlearning_accuracy": 0.90,
    "unlearning_auroc": 0.93,
    "spearman_outside_forget_above_best_baseline": 0.0,
    "null_categories_without_false_alarm": 0.95,
    "direction_of_degraded": 0.90,
}


def write_results(results: Sequence[dict[str, Any]], folder: str | Path) -> dict[str, Any]:
    """Write results.json and results.md into `folder`; returns the JSON's content."""
    whole = {
        "benchmark": "scenarios",
        "machine": machine(),
        "results": list(results),
        "floors": floors(results),
    }
    write_text(Path(folder) / "results.json", json.dumps(whole, indent=1) + "\n")
    write_text(Path(folder) / "results.md", markdown(whole))
    return whole


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
        "unlearning_accuracy": [score(r, "crosscoder", "accuracy") for r in rmu],
        "unlearning_auroc": [score(r, "crosscoder", "auroc") for r in rmu],
        "spearman_outside_forget_above_best_baseline": [_lead(r) for r in rmu],
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


def score(result: dict[str, Any], method: str, metric: str, subset: str = "all") -> float | None:
    """One figure of a result's evaluation; None where it is undefined or was not measured."""
    for row in result.get("evaluation", []):
        if (row["method"], row["metric"], row["subset"]) == (method, metric, subset):
            return None if row["value"] is None else float(row["value"])
    return None


def _lead(result: dict[str, Any]) -> float | None:
    """Spearman outside the forget set, above the best baseline's."""
    rows = [r for r in result["evaluation"] if (r["metric"], r["subset"]) == ("spearman", "outside_forget")]
    others = [r["value"] for r in rows if r["method"] not in NO_RIVALS and r["value"] is not None]
    own = score(result, "crosscoder", "spearman", "outside_forget")
    return None if own is None or not others else own - max(others)


def markdown(whole: dict[str, Any]) -> str:
    """The results as a page."""
    lines = ["# Results", ""]
    lines += ["Made by `make scenarios`: every figure is measured by it. Definitions: docs/method.md.", ""]
    lines += ["| floor | value | needed | met |", "|---|---|---|---|"]
    words = {True: "yes", False: "**no**", None: "not measured"}
    for name, floor in whole["floors"].items():
        needed = "> 0" if floor["floor"] == 0 else f">= {floor['floor']:g}"
        lines.append(
            f"| {name.replace('_', ' ')} | {_cell(floor['value'])} | {needed} | {words[floor['met']]} |"
        )
    good = [r for r in whole["results"] if "error" not in r]
    for result in good:
        lines += ["", f"## {result['title']} (seed {result['seed']})", "", result["verdict"], ""]
        lines.append(f"{result['called']} of {result['categories']} categories called.")
        for subset in dict.fromkeys(row["subset"] for row in result["evaluation"]):
            lines += ["", *_table(result, subset)]
    if failed := [r for r in whole["results"] if "error" in r]:
        lines += ["", "## Failed", ""]
        lines += [f"- {r['scenario']}, seed {r['seed']}: {r['error']}" for r in failed]
    return "\n".join(lines) + "\n"


def _table(result: dict[str, Any], subset: str) -> list[str]:
    rows = [row for row in result["evaluation"] if row["subset"] == subset]
    head = f"| {subset.replace('_', ' ')} ({rows[0]['n']} categories) | " + " | ".join(_SHOWN) + " |"
    lines = [head, "|---" * (len(_SHOWN) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [_cell(score(result, method, metric, subset)) for metric in _SHOWN]
        lines.append(f"| {method.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return lines


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
