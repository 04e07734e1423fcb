"""Outcomes from lm-evaluation-harness: its result JSON of both models, and its sample logs where they lie beside.

    results_DATE.json            {"results": {task: {"acc,none": 0.41, ...}}, "n-samples": {task: {"effective": 135}}}
    samples_TASK_DATE.jsonl      a line a question: doc_id, target, filtered_resps [[log-likelihood, greedy], ...], acc

With sample logs of both models, base and tuned are the mean NLL of the right choice in nats, and intervals are a
paired bootstrap over questions. Without, only accuracy is known: base and tuned are the share of wrong answers, with
no interval.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from mneme.effects.benchmark import LETTERS
from mneme.effects.outcome_files import COLUMNS, ERROR_RATE, check_categories
from mneme.effects.outcomes import summarise_items
from mneme.errors import OutcomesError

_ACCURACY = ("acc", "exact_match", "acc_norm")
_PREFIXES = ("mmlu_pro_", "mmlu_")


def import_results(base: str | Path, tuned: str | Path, known: list[str]) -> pd.DataFrame:
    """Outcomes (COLUMNS) of the tasks that both result files have and whose name, without mmlu_, is one of `known`.

    Groups of tasks are left out. Raises OutcomesError for files that can't be read, tasks that only one model has,
    unlike numbers of questions, percentages, and names that are no category of the run.
    """
    files = (Path(base), Path(tuned))
    results = [_tasks(file) for file in files]
    if only := sorted(set(results[0]) ^ set(results[1])):
        raise OutcomesError(
            f"only one of {files[0]} and {files[1]} has {only[0]}: run both models on the same tasks"
        )
    names = {task: _category(task, known) for task in results[0]}
    check_categories(files[0], sorted(names.values()), known)
    rows = []
    for task, category in names.items():
        n = [found[task]["n"] for found in results]
        if n[0] != n[1]:
            raise OutcomesError(
                f"{task} has {n[0]} questions in {files[0].name} and {n[1]} in {files[1].name}:"
                " run both on the same ones"
            )
        samples = [_samples(file, task) for file in files]
        if samples[0] is not None and samples[1] is not None:
            rows.append(_paired(task, category, samples[0], samples[1]))
        else:
            rows.append(_from_accuracy(category, *(found[task] for found in results)))
    return pd.concat(rows, ignore_index=True).sort_values("category", ignore_index=True)


def _tasks(file: Path) -> dict[str, dict[str, Any]]:
    """Task -> accuracy, stderr, n; groups of tasks left out."""
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        found = whole["results"]
        groups = {name for name, members in whole.get("group_subtasks", {}).items() if members}
        counts = whole.get("n-samples", {})
        tasks = {}
        for task, values in found.items():
            metric = next((key for want in _ACCURACY for key in values if key.split(",")[0] == want), None)
            if task in groups or metric is None:
                continue
            accuracy = float(values[metric])
            if not 0 <= accuracy <= 1:
                raise OutcomesError(
                    f"{file}: {task} has accuracy {accuracy:g}: write shares in [0, 1], not percent"
                )
            tasks[task] = {"accuracy": accuracy, "n": counts.get(task, {}).get("effective")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutcomesError(
            f"{file} can't be read as a result of lm-evaluation-harness ({error!r}): give its results_*.json"
        ) from error
    if not tasks:
        raise OutcomesError(
            f"{file} has no task with an accuracy ({', '.join(_ACCURACY)}): give another result"
        )
    return tasks


def _category(task: str, known: list[str]) -> str:
    if task in known:
        return task
    prefix = next((p for p in _PREFIXES if task.startswith(p)), "")
    return task.removeprefix(prefix)


def _samples(file: Path, task: str) -> dict[str, dict[str, Any]] | None:
    """Question -> its line, of the newest sample log of a task beside the result file; None where there is none."""
    # A longer task's log begins with the same letters: after the task's name comes the date.
    logs = sorted(
        p
        for p in file.parent.glob(f"samples_{task}_*.jsonl")
        if p.stem[len(f"samples_{task}_") :][:1].isdigit()
    )
    stamp = file.stem.removeprefix("results_")
    logs = [p for p in logs if p.stem.endswith(stamp)] or logs
    if not logs:
        return None
    found: dict[str, dict[str, Any]] = {}
    try:
        for line in logs[-1].read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            key = str(row.get("doc_hash") or row["doc_id"])
            if key in found:
                raise OutcomesError(f"{logs[-1]} has question {row['doc_id']} twice: keep one line each")
            found[key] = {"accuracy": _accuracy(row), "nll": _answer_nll(row)}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise OutcomesError(
            f"{logs[-1]} can't be read as a sample log ({error!r}): delete it, or log it again"
        ) from error
    return found


def _accuracy(row: dict[str, Any]) -> float:
    name = next((name for name in _ACCURACY if name in row), None)
    return float("nan") if name is None else float(row[name])


def _answer_nll(row: dict[str, Any]) -> float:
    """-log-likelihood of the right choice, nats; NaN where the task is no multiple choice."""
    replies, target = row.get("filtered_resps") or row.get("resps") or [], row.get("target")
    if isinstance(target, str):
        text = target.strip()
        target = (
            int(text)
            if text.isdigit()
            else LETTERS.index(text)
            if len(text) == 1 and text in LETTERS
            else None
        )
    if not isinstance(target, int) or len(replies) <= max(target, 1):
        return float("nan")
    reply = replies[target]
    while isinstance(reply, list) and reply and isinstance(reply[0], list):
        reply = reply[0]
    value = -float(reply[0])
    return value if math.isfinite(value) else float("nan")


def _paired(task: str, category: str, base: dict[str, Any], tuned: dict[str, Any]) -> pd.DataFrame:
    if set(base) != set(tuned):
        raise OutcomesError(
            f"the sample logs of {task} are not of the same questions ({len(base)} and {len(tuned)}):"
            " run both models alike"
        )
    frame = pd.DataFrame(
        {
            "category": category,
            **{
                f"accuracy_{m}": [rows[q]["accuracy"] for q in base]
                for m, rows in (("base", base), ("tuned", tuned))
            },
            **{
                f"answer_{m}": [rows[q]["nll"] for q in base]
                for m, rows in (("base", base), ("tuned", tuned))
            },
        }
    )
    nats = bool(frame[["answer_base", "answer_tuned"]].notna().all(axis=None))
    for model in ("base", "tuned"):
        frame[model] = frame[f"answer_{model}"] if nats else 1 - frame[f"accuracy_{model}"]
    source = "lm-eval samples"
    return (
        summarise_items(frame, source=source)
        if nats
        else summarise_items(frame, source=source, unit=ERROR_RATE)
    )


def _from_accuracy(category: str, base: dict[str, Any], tuned: dict[str, Any]) -> pd.DataFrame:
    before, after = base["accuracy"], tuned["accuracy"]
    row = {
        "category": category,
        "base": 1 - before,
        "tuned": 1 - after,
        "change": before - after,
        "accuracy_base": before,
        "accuracy_tuned": after,
        "n": base["n"],
        "source": "lm-eval results",
        "unit": ERROR_RATE,
    }
    return pd.DataFrame([row]).reindex(columns=list(COLUMNS))
