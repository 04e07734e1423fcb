"""Multiple-choice questions to measure outcomes on: MMLU's CSV files, WMDP's JSON files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from mneme.errors import OutcomesError

LETTERS = "ABCDEFGHIJ"


class Item(NamedTuple):
    """One multiple-choice question; `answer` is the index of the right choice."""

    category: str
    question: str
    choices: tuple[str, ...]
    answer: int


def item_text(item: Item) -> str:
    """The question and its options, a line each, without the answer."""
    options = (f"{LETTERS[i]}. {choice}" for i, choice in enumerate(item.choices))
    return "\n".join((item.question.strip(), *options))


def load_mmlu(
    folder: str | Path, *, per_category: int | None = None, every: int = 1, first: int = 0
) -> list[Item]:
    """The questions of MMLU (Hendrycks et al. 2021): a folder of `SUBJECT_test.csv`, category = SUBJECT.

    Of each file only the rows `first`, `first + every`, ... are taken, and of these `per_category` at most,
    spread evenly. So training can use even rows (every=2, first=0) and measuring odd ones (every=2, first=1).

    Raises OutcomesError when there are no such files or one can't be read.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*_test.csv")) or sorted((folder / "test").glob("*_test.csv"))
    if not files:
        raise OutcomesError(f"no SUBJECT_test.csv in {folder} or {folder / 'test'}: give MMLU's folder")
    items = []
    for file in files:
        rows = read_questions(file)[first::every]
        if per_category is not None and len(rows) > per_category:
            rows = [rows[i * len(rows) // per_category] for i in range(per_category)]
        items += rows
    return items


def read_questions(file: str | Path) -> list[Item]:
    """The questions of one file; category = the file's name without _test.

    MMLU's CSV (question, options, answer; the answer an index or a letter; a header or none), or WMDP's JSON
    (a list of {"question", "choices", "answer"}).

    Raises OutcomesError when it can't be read.
    """
    file = Path(file)
    category = file.stem.removesuffix("_test")
    try:
        if file.suffix == ".json":
            found = json.loads(file.read_text(encoding="utf-8"))
            items = [Item(category, q["question"], tuple(q["choices"]), int(q["answer"])) for q in found]
        else:
            with open(file, encoding="utf-8", newline="") as handle:
                rows = list(csv.reader(handle))
            if rows and rows[0][0] == "question":
                rows = rows[1:]
            items = [Item(category, row[0], tuple(row[1:-1]), _answer(row[-1])) for row in rows]
        if bad := next((item for item in items if not 0 <= item.answer < len(item.choices)), None):
            raise ValueError(f"the answer of {bad.question[:40]!r} is none of its options")
    except (OSError, UnicodeDecodeError, ValueError, KeyError, IndexError, TypeError) as error:
        raise OutcomesError(
            f"{file} can't be read as multiple-choice questions ({error}): give MMLU's CSV"
            " (question, options, answer) or WMDP's JSON"
        ) from error
    return items


def _answer(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdigit() else LETTERS.index(text)
