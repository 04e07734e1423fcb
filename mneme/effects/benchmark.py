"""What outcomes are measured on: MMLU's CSV files, WMDP's JSON files, or items of one's own with their categories."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mneme._util.errors import CorpusError, OutcomesError, first_line
from mneme.corpus.corpus import clean_text
from mneme.corpus.opened import PACKED, opened
from mneme.corpus.rows import kind_of, read_rows, table_rows

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
    items = read_lines(path) if kind_of(path) == ".jsonl" else read_questions(path)
    by_category: dict[str, list[Item]] = {}
    for item in items:
        by_category.setdefault(item.category, []).append(item)
    chosen = [item for rows in by_category.values() for item in _spread(rows[first::every], per_category)]
    if not chosen:
        raise OutcomesError(f"{path} has no items: give one with at least one question or text")
    return chosen


def read_lines(file: Path) -> list[Item]:
    """The items of a .jsonl file (see load_benchmark). Raises OutcomesError, naming the line that can't be read."""
    items = []
    with outcomes_errors():
        for row in read_rows(file):
            try:
                items.append(_item(row.values))
            except (ValueError, KeyError, TypeError) as error:
                raise OutcomesError(
                    f"{row.where} can't be read ({first_line(error)}): give category and text, or category, question,"
                    " choices and answer"
                ) from error
    return items


def _item(row: dict[str, Any]) -> Item:
    """Raises ValueError, KeyError or TypeError for a row that is none."""
    category = str(row["category"]).strip()
    if "text" in row:
        return Item(category, _clean(row["text"]), (), -1)
    return _question(category, row["question"], row["choices"], str(row["answer"]))


def _question(category: str, question: Any, choices: Sequence[Any], answer: str) -> Item:
    item = Item(category, _clean(question), tuple(map(_clean, choices)), _answer(answer))
    if not 0 <= item.answer < len(item.choices):
        raise ValueError(f"the answer of {item.question[:40]!r} is none of its options")
    return item


def _clean(text: Any) -> str:
    """What models are asked; the line ends and characters that no tokenizer takes are gone."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where a text should be")
    return clean_text(text, Counter())


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
    kind = kind_of(file)
    category = file.name.removesuffix("".join(file.suffixes[-2:])) if file.suffix in PACKED else file.stem
    category = category.removesuffix("_test")
    try:
        if kind in (".json", ".jsonl"):
            rows = [row.values for row in read_rows(file)]
            return [_question(category, q["question"], q["choices"], str(q["answer"])) for q in rows]
        with opened(file, newline="") as text:
            table = [(number, row) for number, row, _ in table_rows(file, text, has_header=False)]
        if table and table[0][1][0].strip().casefold() == "question":
            table = table[1:]
        return [_question(category, row[0], row[1:-1], row[-1]) for _, row in table]
    except (CorpusError, ValueError, KeyError, IndexError, TypeError) as error:
        raise OutcomesError(
            f"{file} can't be read as multiple-choice questions ({first_line(error)}): give MMLU's CSV"
            " (question, options, answer) or WMDP's JSON"
        ) from error


@contextlib.contextmanager
def outcomes_errors() -> Iterator[None]:
    """What the reader of text can't read is OutcomesError here."""
    try:
        yield
    except CorpusError as error:
        raise OutcomesError(str(error)) from error


def _answer(text: str) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() else LETTERS.index(text)
