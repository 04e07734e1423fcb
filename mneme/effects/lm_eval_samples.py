"""Sample logs of lm-evaluation-harness (--log_samples): samples_TASK_DATE.jsonl beside the result of the same date.

A line a question and filter: doc_id, doc_hash, prompt_hash, filter, target, arguments, acc, and filtered_resps, which
for multiple choice is [[log-likelihood, greedy], ...], a pair a choice, as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mneme._util.errors import CorpusError, OutcomesError, first_line
from mneme.corpus.rows import read_rows
from mneme.effects.benchmark import LETTERS

_DATE = re.compile(r"\d{4}-\d\d-\d\dT[\d.-]+$")
_APART = 1e-3  # the log's mean accuracy may lie this far from the result's


def read_samples(file: Path, task: str, metric: str, accuracy: float) -> pd.DataFrame | None:
    """Questions by doc_id: text and prompt (hashes), accuracy in [0, 1], nll of the right choice in nats, chance (1 /
    choices).

    NaN: not known. `file`: the result, `metric`: its key as METRIC,FILTER, `accuracy`: its value. None where no log of
    the same date lies beside it; a result without a date takes the only log of the task. Raises OutcomesError for a log
    that can't be read, has a question twice, or isn't the result's own.
    """
    log = _log(file, task)
    if log is None:
        return None
    name, _, wanted = metric.partition(",")
    rows: dict[int, dict[str, Any]] = {}
    try:
        for row, _ in read_rows(log):
            if row.get("filter", wanted) != wanted:
                continue
            if row["doc_id"] in rows:
                raise OutcomesError(f"{log} has question {row['doc_id']} twice: keep one line each")
            rows[row["doc_id"]] = row
        right = {key: float(row[name]) for key, row in rows.items()}
        replies = [_multiple_choice(row) for row in rows.values()]
        nll = _answer_nll(list(rows.values()), replies)
    except (CorpusError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise OutcomesError(
            f"{log} can't be read as a sample log ({first_line(error)}): delete it, or log it again"
        ) from error
    frame = pd.DataFrame({"accuracy": right, "nll": dict(zip(rows, nll, strict=True))})
    frame["chance"] = [1 / len(choices) if choices else math.nan for choices in replies]
    frame["text"] = [row.get("doc_hash") for row in rows.values()]
    frame["prompt"] = [row.get("prompt_hash") for row in rows.values()]
    if not abs(frame["accuracy"].mean() - accuracy) <= _APART:
        raise OutcomesError(
            f"{log} has a mean {name} of {frame['accuracy'].mean():.3f}, {file.name} one of {accuracy:.3f}:"
            " give a result and the log of the same run, or move the log away"
        )
    return frame.sort_index()


def _log(file: Path, task: str) -> Path | None:
    logs = {}
    for path in file.parent.glob("samples_*.jsonl"):
        date = _DATE.search(path.stem)
        if date and path.stem[: date.start()] == f"samples_{task}_":
            logs[date.group()] = path
    own = _DATE.search(file.stem)
    if own:
        return logs.get(own.group())
    return next(iter(logs.values())) if len(logs) == 1 else None


def _multiple_choice(row: dict[str, Any]) -> list[float]:
    """Log-likelihood of each choice, nats; empty where the task is no multiple choice."""
    replies = row["filtered_resps"]
    if len(replies) < 2 or not all(isinstance(reply, list) and len(reply) == 2 for reply in replies):
        return []
    return [float(reply[0]) for reply in replies]


def _answer_nll(rows: list[dict[str, Any]], replies: list[list[float]]) -> list[float]:
    """NLL of each row's right choice: NaN for all unless one reading of `target` agrees with every row's acc.

    A target is logged as the choice's index, its text or its letter, and a text may be a digit: acc tells which.
    """
    nothing = [math.nan] * len(rows)
    if not all(replies):
        return nothing
    for reading in (_by_index, _by_text, _by_letter):
        found = _read(rows, replies, reading)
        if found is not None:
            return found
    return nothing


def _read(
    rows: list[dict[str, Any]], replies: list[list[float]], reading: Callable[[dict[str, Any]], int | None]
) -> list[float] | None:
    nll = []
    for row, values in zip(rows, replies, strict=True):
        target = reading(row)
        if target is None or not 0 <= target < len(values) or not math.isfinite(values[target]):
            return None
        # The likeliest choice is the right one exactly where acc is 1; ties may fall either way.
        best = max(values)
        if "acc" in row and values.count(best) == 1 and (values[target] == best) != bool(row["acc"]):
            return None
        nll.append(-values[target])
    return nll


def _by_index(row: dict[str, Any]) -> int | None:
    text = str(row["target"]).strip()
    return int(text) if text.isdecimal() else None


def _by_text(row: dict[str, Any]) -> int | None:
    texts = [str(asked["arg_1"]).strip() for asked in row.get("arguments", {}).values()]
    target = str(row["target"]).strip()
    return texts.index(target) if texts.count(target) == 1 else None


def _by_letter(row: dict[str, Any]) -> int | None:
    text = str(row["target"]).strip()
    return LETTERS.index(text) if len(text) == 1 and text in LETTERS else None
