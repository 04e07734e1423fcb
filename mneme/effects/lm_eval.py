"""Outcomes from lm-evaluation-harness: its result JSON of both models, and its sample logs where they lie beside.

    results_DATE.json            {"results": {task: {"acc,none": 0.41, ...}}, "n-samples": {task: {"effective": 135}}}
    samples_TASK_DATE.jsonl      see lm_eval_samples.py

With sample logs of both models, base and tuned are the mean NLL of the right choice in nats, and intervals are a
paired bootstrap over questions. Where a task has no NLL, base and tuned of all tasks are the share of wrong answers
(one unit a run); where there is no sample log the interval takes both models' questions for independent draws, which
makes it wider than a paired one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mneme._util.errors import OutcomesError, first_line
from mneme._util.reading import read_json
from mneme._util.settings import suggest
from mneme.effects.lm_eval_samples import read_samples
from mneme.effects.outcome_files import COLUMNS
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE, NATS
from mneme.effects.outcomes import summarise_items
from mneme.stats.proportions import unpaired_change

_BENCHMARK = "lm-eval"
_ACCURACY = ("acc", "exact_match", "acc_norm")  # the first that a task has, of its first filter
_MMLU = re.compile(
    r"mmlu_(?:pro_|redux_|llama_|flan_n_shot_(?:loglikelihood|generative)_|flan_cot_(?:zeroshot|fewshot)_)?"
    r"(?P<subject>.+?)(?:_continuation|_generative)?"
)
_WHOLE = {  # settings of a run that change what is asked, and the harness' option for each
    "chat_template_sha": "--apply_chat_template",
    "system_instruction_sha": "--system_instruction",
    "fewshot_as_multiturn": "--fewshot_as_multiturn",
}


class Imported(NamedTuple):
    """Outcomes from another tool's results."""

    frame: pd.DataFrame
    """COLUMNS, a row a category."""
    left_out: dict[str, str]
    """Task -> why it is no outcome of the run."""


def import_results(base: str | Path, tuned: str | Path, known: list[str]) -> Imported:
    """Outcomes of the tasks whose name is one of `known`, MMLU's by subject.

    Left out and named are tasks that are no category of the run, and those whose accuracy is no number (NaN, null,
    "N/A"); groups of tasks are left out. Raises OutcomesError for files that can't be read, tasks of a category that
    only one model has, models that weren't asked alike, percentages, two tasks of one category, and where no task is
    left.
    """
    files = (Path(base), Path(tuned))
    check_two(*files)
    results = [_tasks(file) for file in files]
    names, left_out = _categories(files, results, known)
    rows, items = [], {}
    for task, category in names.items():
        _asked_alike(task, results[0][task], results[1][task])
        samples = [
            read_samples(file, task, found[task]["metric"], found[task]["accuracy"])
            for file, found in zip(files, results, strict=True)
        ]
        if samples[0] is not None and samples[1] is not None:
            items[category] = _items(task, category, samples[0], samples[1])
        else:
            rows.append(_from_accuracy(category, *(found[task] for found in results)))
    nats = not rows and all(
        frame[["answer_base", "answer_tuned"]].notna().all(axis=None) for frame in items.values()
    )
    rows.extend(_paired(frame, nats) for frame in items.values())
    return Imported(pd.concat(rows, ignore_index=True).sort_values("category", ignore_index=True), left_out)


def check_two(base: Path, tuned: Path) -> None:
    """Raises OutcomesError where one file is given for both models."""
    if base.resolve() == tuned.resolve():
        raise OutcomesError(f"{base} is given twice: give the result of the base and that of the tuned model")


def category_of(task: str, known: Collection[str]) -> str:
    """The category that a task's name tells: its own, or MMLU's subject without what harnesses put around it."""
    task = task.rsplit("/", 1)[-1]
    mmlu = None if task in known else _MMLU.fullmatch(task)
    return mmlu["subject"] if mmlu else task


def _tasks(file: Path) -> dict[str, dict[str, Any]]:
    """Task -> metric, accuracy (None: not a number), told (what stands there), n, asked (how: by option); no groups."""
    try:
        whole = read_json(file)
        found = whole["results"]
        groups = {name for name, members in (whole.get("group_subtasks") or {}).items() if members}
        counts = whole.get("n-samples") or {}
        setting = {option: whole.get(key) for key, option in _WHOLE.items()}
        tasks = {}
        for task, values in found.items():
            if task in groups or not isinstance(values, dict):
                continue
            metric = next((key for want in _ACCURACY for key in values if key.split(",")[0] == want), None)
            tasks[task] = {
                "metric": metric,
                "accuracy": _finite(values.get(metric)),
                "told": f"no accuracy ({', '.join(_ACCURACY)})"
                if metric is None
                else f"{metric} {values[metric]!r:.20}",
                "n": (counts.get(task) or {}).get("effective"),
                "asked": setting
                | {
                    "--num_fewshot": (whole.get("n-shot") or {}).get(task),
                    "version of the task": (whole.get("versions") or {}).get(task),
                },
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutcomesError(
            f"{file} can't be read as a result of lm-evaluation-harness ({first_line(error)}): give its results_*.json,"
            " or a log of Inspect"
        ) from error
    if not any(task["metric"] for task in tasks.values()):
        raise OutcomesError(
            f"{file} has no task with an accuracy ({', '.join(_ACCURACY)}): give another result"
        )
    return tasks


def _finite(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _categories(
    files: tuple[Path, Path], results: Sequence[dict[str, dict[str, Any]]], known: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """(task -> category of those that both files measured, task -> why it is left out)."""
    names: dict[str, str] = {}
    left_out: dict[str, str] = {}
    owner: dict[str, str] = {}
    for task in sorted({*results[0], *results[1]}):
        category = category_of(task, known)
        if category not in known:
            left_out[task] = "no category of the run"
            continue
        both = [found.get(task) for found in results]
        if both[0] is None or both[1] is None:
            raise OutcomesError(
                f"only one of {files[0]} and {files[1]} has {task}: run both models on the same tasks"
            )
        if bad := next((each for each in both if each and each["accuracy"] is None), None):
            left_out[task] = bad["told"]
            continue
        if other := owner.get(category):
            raise OutcomesError(
                f"{files[0]}: both {other} and {task} are of the category {category}: give results with one of them"
            )
        names[task], owner[category] = category, task
        for file, each in zip(files, both, strict=True):
            if each and not 0 <= each["accuracy"] <= 1:
                raise OutcomesError(
                    f"{file}: {task} has accuracy {each['accuracy']:g}: write shares in [0, 1], not percent"
                )
    if not names:
        raise nothing_left(files[0], left_out, known)
    return names, left_out


def nothing_left(file: Path, left_out: Mapping[str, str], known: Collection[str]) -> OutcomesError:
    """For results of which nothing is an outcome of the run."""
    task, why = next(iter(left_out.items()))
    hint = suggest(category_of(task, known), known)
    return OutcomesError(f"{file}: no task is an outcome of the run ({task}: {why}): {hint}")


def _asked_alike(task: str, base: dict[str, Any], tuned: dict[str, Any]) -> None:
    if base["n"] != tuned["n"]:
        raise OutcomesError(
            f"{task} has {base['n']} questions of the base and {tuned['n']} of the tuned model:"
            " run both on the same ones"
        )
    for option, before in base["asked"].items():
        if (after := tuned["asked"][option]) != before:
            raise OutcomesError(
                f"{task} was asked otherwise: {option} is {_told(before)} for the base and {_told(after)} for the"
                " tuned model: run both alike"
            )


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)


def _items(task: str, category: str, base: pd.DataFrame, tuned: pd.DataFrame) -> pd.DataFrame:
    """A row a question: category, accuracy and answer (NLL) of both models."""
    if list(base.index) != list(tuned.index) or list(base["text"]) != list(tuned["text"]):
        raise OutcomesError(
            f"the sample logs of {task} are not of the same questions ({len(base)} and {len(tuned)}):"
            " run both models alike"
        )
    if list(base["prompt"]) != list(tuned["prompt"]):
        raise OutcomesError(
            f"the sample logs of {task} have the same questions in other prompts (few-shot examples, chat template or"
            " system instruction): run both models alike"
        )
    return pd.DataFrame(
        {
            "category": category,
            "accuracy_base": base["accuracy"],
            "accuracy_tuned": tuned["accuracy"],
            "answer_base": base["nll"],
            "answer_tuned": tuned["nll"],
            "chance": base["chance"],
        }
    )


def _paired(frame: pd.DataFrame, nats: bool) -> pd.DataFrame:
    for model in ("base", "tuned"):
        frame[model] = frame[f"answer_{model}"] if nats else 1 - frame[f"accuracy_{model}"]
    unit = NATS if nats else ERROR_RATE
    return summarise_items(frame, source="lm-eval samples", unit=unit, kind=CAPABILITY, benchmark=_BENCHMARK)


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
        "kind": CAPABILITY,
        "benchmark": _BENCHMARK,
    }
    if base["n"]:
        low, high = unpaired_change(before, after, base["n"])
        row |= {"accuracy_low": low, "accuracy_high": high, "ci_low": -high, "ci_high": -low}
    return pd.DataFrame([row]).reindex(columns=list(COLUMNS))
