"""What outcomes are measured on: MMLU's CSV files, WMDP's JSON files, or items of one's own with their categories."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

from mneme._util.errors import OutcomesError

LETTERS = "ABCDEFGHIJ"


class Item(NamedTuple):
    """One multiple-choice question; `answer` is the index of the right choice. Without choices: a text."""

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
        items += _spread(read_questions(file)[first::every], per_category)
    return items


def load_benchmark(
    path: str | Path, *, per_category: int | None = None, every: int = 1, first: int = 0
) -> list[Item]:
    """The items of a benchmark: MMLU's folder, or a file.

    A .jsonl has an object a line: category, and either text, or question, choices and answer (an index or a letter).
    A .csv or .json is as for `read_questions`: one category, that of the file's name. every, first and per_category are
    as for load_mmlu, by category.

    Raises OutcomesError when it can't be read.
    """
    path = Path(path)
    if path.is_dir():
        return load_mmlu(path, per_category=per_category, every=every, first=first)
    if not path.is_file():
        raise OutcomesError(f"no benchmark {path}: give MMLU's folder, or a .jsonl, .csv or .json file")
    items = read_lines(path) if path.suffix == ".jsonl" else read_questions(path)
    by_category: dict[str, list[Item]] = {}
    for item in items:
        by_category.setdefault(item.category, []).append(item)
    chosen = [item for rows in by_category.values() for item in _spread(rows[first::every], per_category)]
    if not chosen:
        raise OutcomesError(f"{path} has no items: give one with at least one question or text")
    return chosen


def read_lines(file: Path) -> list[Item]:
    """The items of a .jsonl file (see load_benchmark)."""
    items = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            category = str(row["category"]).strip()
            if "text" in row:
                items.append(Item(category, str(row["text"]), (), -1))
                continue
            item = Item(category, row["question"], tuple(row["choices"]), _answer(str(row["answer"])))
            if not 0 <= item.answer < len(item.choices):
                raise ValueError("the answer is none of its choices")
            items.append(item)
        except (ValueError, KeyError, TypeError) as error:
            raise OutcomesError(
                f"{file}, line {number} can't be read ({error!r}): give category and text, or category, question,"
                " choices and answer"
            ) from error
    return items


def _spread(rows: list[Item], most: int | None) -> list[Item]:
    """`most` of the rows, evenly over them."""
    if most is None or len(rows) <= most:
        return rows
    return [rows[i * len(rows) // most] for i in range(most)]


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
