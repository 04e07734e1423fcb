"""The texts a method trains on, from files, and what a recipe says of them: names and hashes, not paths."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mneme._util.errors import CorpusError
from mneme._util.files import sha256
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
    its options and the answer. .jsonl has a field `text` (or `question` and `answer`). Of .txt each
    paragraph of 20 words or more is a text.

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
    if file.suffix in (".csv", ".json"):
        if not file.is_file():
            raise CorpusError(f"no file {file}: give an existing one")
        return [
            f"{item_text(item)}\nAnswer: {LETTERS[item.answer]}. {item.choices[item.answer]}"
            for item in read_questions(file)
        ]
    try:
        content = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            return [_row_text(json.loads(line)) for line in content.splitlines() if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{file} can't be read ({error}): give .csv, .json, .jsonl or .txt") from error
    return [line.strip() for line in content.splitlines() if len(line.split()) >= 20]


def _row_text(row: dict[str, str]) -> str:
    return row["text"] if "text" in row else f"{row['question']}\n{row['answer']}"
