"""The texts a method trains on, from files, and what a recipe says of them: names and hashes, not paths."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mneme._util.errors import CorpusError
from mneme._util.files import sha256
from mneme.corpus.chat import plain_chat
from mneme.corpus.corpus import clean_text
from mneme.corpus.fields import document_of
from mneme.corpus.opened import lines_of, opened
from mneme.corpus.read import PLAIN_KINDS
from mneme.corpus.rows import ROW_KINDS, Row, kind_of, read_rows
from mneme.effects.benchmark import LETTERS, item_text, read_questions

HALVES = {"even": 0, "odd": 1}


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What a method may need: texts to forget, texts to hold, texts to learn."""

    forget: tuple[str, ...] = ()
    retain: tuple[str, ...] = ()
    learn: tuple[str, ...] = ()


class SourceFacts(NamedTuple):
    """A file in a recipe: its name, SHA-256, which half was used (all, even or odd) and how many texts."""

    file: str
    sha256: str
    part: str
    texts: int


def read_texts(spec: str | Path) -> tuple[list[str], SourceFacts]:
    """The texts of a file, or of half of it: `questions.csv::even` takes its texts 0, 2, 4, ...

    .csv (MMLU's layout) and .json (WMDP's) hold multiple-choice questions: a text is the question,
    its options and the answer. .jsonl and .parquet have a field `text`, `question` and `answer`, or a conversation.
    Of .txt each line of 20 words or more is a text. All may be packed (.gz, .zst).

    Raises CorpusError when it can't be read or nothing is in it.
    """
    name, _, part = str(spec).partition("::")
    if part and part not in HALVES:
        raise CorpusError(f"{spec}: after :: comes even or odd")
    file = Path(name)
    texts = _read(file)
    if part:
        texts = texts[HALVES[part] :: 2]
    if not texts:
        raise CorpusError(f"{spec} holds no text: give a .csv, .json, .jsonl or .txt file with some")
    return texts, SourceFacts(file.name, sha256(file), part or "all", len(texts))


def read_all(specs: Sequence[str | Path]) -> tuple[tuple[str, ...], list[SourceFacts]]:
    """The texts of several files, in turn, and the facts of each file."""
    found = [read_texts(spec) for spec in specs]
    return tuple(text for texts, _ in found for text in texts), [facts for _, facts in found]


def _read(file: Path) -> list[str]:
    kind = kind_of(file)
    if kind in (".csv", ".tsv", ".json"):
        if not file.is_file():
            raise CorpusError(f"no file {file}: give an existing one")
        return [
            f"{item_text(item)}\nAnswer: {LETTERS[item.answer]}. {item.choices[item.answer]}"
            for item in read_questions(file)
        ]
    dropped: Counter[str] = Counter()
    if kind in PLAIN_KINDS:
        with opened(file, newline=None) as text:
            lines = [clean_text(line, dropped).strip() for line in lines_of(text, file)]
        return [line for line in lines if len(line.split()) >= 20]
    if kind not in ROW_KINDS:
        raise CorpusError(f"{file} is of no known kind: give .csv, .json, .jsonl, .parquet or .txt")
    texts = (_row_text(row) for row in read_rows(file))
    return [text for text in (clean_text(text, dropped) for text in texts) if text.strip()]


def _row_text(row: Row) -> str:
    asked, answered = row.values.get("question"), row.values.get("answer")
    if not row.values.get("text") and isinstance(asked, str) and isinstance(answered, str):
        return f"{asked}\n{answered}"
    return document_of(row.values, row.where, None, plain_chat).text
