"""docs/results.md: the floors, a row a scenario over its seeds, every run's figures, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mneme.scenarios.figures import HELD_OUT, best_baseline, score

_SHOWN = ("auroc", "spearman", "accuracy", "precision", "recall", "f1", "direction")
_FACTS = ("explained_variance", "dead_share")


def markdown(whole: dict[str, Any]) -> str:
    """The results as a page."""
    good = [result for result in whole["results"] if "error" not in result]
    lines = ["# Results", ""]
    lines += ["Made by `make scenarios`: every figure is measured by it. Definitions: docs/method.md.", ""]
    lines += _floors(whole["floors"])
    if held_out := dict.fromkeys(r["title"] for r in good if r["scenario"] in HELD_OUT):
        lines += [
            "",
            f"Held out: {', '.join(held_out)}, made after the method was settled."
            " The others had a part in choosing it.",
        ]
    if good:
        lines += ["", "## All scenarios", "", *_summary(good)]
    for result in good:
        lines += ["", f"## {result['title']} (seed {result['seed']})", "", result["verdict"], ""]
        lines.append(f"{result['called']} of {result['categories']} categories called.")
        for subset in dict.fromkeys(row["subset"] for row in result["evaluation"]):
            lines += ["", *_table(result, subset)]
    if failed := [result for result in whole["results"] if "error" in result]:
        lines += ["", "## Failed", ""]
        lines += [f"- {r['scenario']}, seed {r['seed']}: {r['error']}" for r in failed]
    if whole.get("missing"):
        lines += [
            "",
            "## Not run",
            "",
            "Of the list, so not in any figure above: " + ", ".join(whole["missing"]) + ".",
        ]
    return "\n".join(lines) + "\n"


def _floors(floors: dict[str, dict[str, Any]]) -> list[str]:
    lines = ["| floor | value | needed | met |", "|---|---|---|---|"]
    words = {True: "yes", False: "**no**", None: "not measured"}
    for name, floor in floors.items():
        needed = "> 0" if floor["floor"] == 0 else f">= {floor['floor']:g}"
        lines.append(
            f"| {name.replace('_', ' ')} | {_cell(floor['value'])} | {needed} | {words[floor['met']]} |"
        )
    return lines


def _summary(good: list[dict[str, Any]]) -> list[str]:
    """A row a scenario: means over seeds, with the range where there are several."""
    heads = [
        "scenario",
        "seeds",
        "degraded",
        "called",
        "AUROC",
        "best baseline",
        "oracle",
        "Spearman",
        "best baseline",
    ]
    heads += ["accuracy", "explained variance", "dead"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(result["scenario"] for result in good):
        runs = [result for result in good if result["scenario"] == name]
        cells = [runs[0]["title"], str(len(runs))]
        cells += [
            _range((r.get("degraded") for r in runs), "{:.0f}"),
            _range((r["called"] for r in runs), "{:.0f}"),
        ]
        cells += [_range(score(r, "crosscoder", "auroc") for r in runs), _best(runs, "auroc")]
        cells += [_range(score(r, "oracle", "auroc") for r in runs)]
        cells += [_range(score(r, "crosscoder", "spearman") for r in runs), _best(runs, "spearman")]
        cells += [_range(score(r, "crosscoder", "accuracy") for r in runs)]
        cells += [_range(r.get(fact) for r in runs) for fact in _FACTS]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _best(runs: list[dict[str, Any]], metric: str) -> str:
    """The best baseline of each run: its values, and which they are."""
    found = [best for run in runs if (best := best_baseline(run, metric))]
    names = dict.fromkeys(name.replace("_", " ") for name, _ in found)
    return f"{_range(value for _, value in found)} ({', '.join(names)})" if found else "–"


def _range(values: Iterable[float | None], form: str = "{:.2f}") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = form.format(sum(known) / len(known))
    low, high = form.format(min(known)), form.format(max(known))
    return mean if low == high else f"{mean} ({low} to {high})"


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
