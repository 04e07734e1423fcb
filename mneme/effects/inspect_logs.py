"""Outcomes from logs of Inspect (inspect_ai): a .eval or .json log of both models, question by question.

    log.json    {"eval": {"task": ...}, "samples": [{"id", "epoch", "input", "target", "metadata", "scores"}, ...]}
    log.eval    a zip: header.json (the log without its samples), samples/ID_epoch_N.json

A score is "C" (correct), "I" (incorrect), "P" (partial), "N" (no answer), a number in [0, 1], true or false. The
category of a question is what its metadata say under `subject`, `category` or `topic`, else the task's name.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from mneme._util.errors import OutcomesError, first_line
from mneme._util.reading import MOST_BYTES, check_regular, parse_json, read_json
from mneme.effects.lm_eval import Imported, category_of, check_two, nothing_left
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE
from mneme.effects.outcomes import summarise_items

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_NAMED = ("subject", "category", "topic")
_SOURCE = "Inspect log"


def is_inspect_log(file: str | Path) -> bool:
    """Whether a file is a log of Inspect. A file that can't be read is none."""
    file = Path(file)
    if file.suffix.casefold() == ".eval":
        return True
    try:
        found = read_json(file)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("eval"), dict) and "task" in found["eval"]


def import_logs(base: str | Path, tuned: str | Path, known: list[str]) -> Imported:
    """Outcomes of a task's log for both models: error rates, paired by question.

    A question that was asked in several epochs counts once, with their mean. Categories that the run has not are left
    out and named. Raises OutcomesError for logs that can't be read, of other questions, without scores, and where
    nothing is left.
    """
    files = (Path(base), Path(tuned))
    check_two(*files)
    base_items, tuned_items = (_questions(file, known) for file in files)
    if list(base_items.index) != list(tuned_items.index) or list(base_items["input"]) != list(
        tuned_items["input"]
    ):
        raise OutcomesError(
            f"{files[0]} and {files[1]} are not of the same questions ({len(base_items)} and {len(tuned_items)}):"
            " run both models alike"
        )
    frame = pd.DataFrame(
        {"category": base_items["category"], "answer_base": float("nan"), "answer_tuned": float("nan")}
    )
    for name, items in (("base", base_items), ("tuned", tuned_items)):
        frame[f"accuracy_{name}"] = items["right"]
        frame[name] = 1 - items["right"]
    named = {str(name) for name in frame["category"].unique()}
    left_out = dict.fromkeys(sorted(named - set(known)), "no category of the run")
    frame = frame[frame["category"].isin(known)]
    if frame.empty:
        raise nothing_left(files[0], left_out, known)
    return Imported(
        summarise_items(frame, source=_SOURCE, unit=ERROR_RATE, kind=CAPABILITY, benchmark=files[0].stem),
        left_out,
    )


def _questions(file: Path, known: Collection[str]) -> pd.DataFrame:
    """By question id: category, input (text), right (a share)."""
    rows = []
    try:
        header, samples = _read(file)
        if header.get("status") not in (None, "success"):
            raise OutcomesError(
                f"{file} is of an evaluation that ended in {header['status']!r:.40}: give a finished one"
            )
        task = category_of(str(header["eval"]["task"]), known)
        for sample in samples:
            right = _right(sample.get("scores") or {})
            if right is None:
                raise OutcomesError(
                    f"{file}: question {sample['id']!r:.40} has no score that is right or wrong: score it"
                )
            category = _category(sample.get("metadata") or {}, task, known)
            rows.append((str(sample["id"]), category, str(sample.get("input")), right))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(file, first_line(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        hint = "; write it as JSON with `inspect log convert --to json`" * isinstance(
            error, NotImplementedError
        )
        raise _unreadable(file, first_line(error) + hint) from error
    if not rows:
        raise OutcomesError(f"{file} has no questions: give a log with samples, not only its header")
    frame = pd.DataFrame(rows, columns=["id", "category", "input", "right"])
    return frame.groupby("id").agg({"category": "first", "input": "first", "right": "mean"}).sort_index()


def _unreadable(file: Path, why: str) -> OutcomesError:
    return OutcomesError(f"{file} can't be read as a log of Inspect ({why}): give a .eval or .json log")


def _read(file: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The log without its samples, and the samples."""
    if file.suffix.casefold() != ".eval":
        whole = read_json(file)
        return whole, iter(whole.get("samples") or ())
    check_regular(file)
    archive = zipfile.ZipFile(file)
    return _member(archive, "header.json"), _samples(archive)


def _samples(archive: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    with archive:
        names = [
            name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")
        ]
        for name in sorted(names):
            yield _member(archive, name)


def _member(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    if archive.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(f"{name[:60]} is larger than {MOST_BYTES >> 20} MB")
    found = parse_json(archive.read(name).decode("utf-8"))
    if not isinstance(found, dict):
        raise TypeError(f"{name[:60]} is no object")
    return found


def _right(scores: dict[str, Any]) -> float | None:
    """The first score that says right or wrong."""
    for score in scores.values():
        value = score.get("value") if isinstance(score, dict) else score
        if isinstance(value, str) and value.upper() in _LETTERS:
            return _LETTERS[value.upper()]
        if isinstance(value, int | float) and 0 <= value <= 1:
            return float(value)
    return None


def _category(metadata: dict[str, Any], task: str, known: Collection[str]) -> str:
    """What the metadata say, a category where one of them is; without any, the task."""
    named = [str(metadata[key]).strip().casefold().replace(" ", "_") for key in _NAMED if metadata.get(key)]
    return next((name for name in named if name in known), named[0] if named else task)
