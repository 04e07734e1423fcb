"""Read documents out of files: .txt, .md, and the kinds of mneme/corpus/rows.py; and out of folders of these."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mneme._util.errors import CorpusError
from mneme.corpus.chat import plain_chat
from mneme.corpus.corpus import Document
from mneme.corpus.fields import KNOWN_FIELDS, Render, document_of
from mneme.corpus.opened import MOST_LINE, lines_of, opened
from mneme.corpus.rows import ROW_KINDS, kind_of, read_rows

PLAIN_KINDS = (".txt", ".md")
KINDS = (*PLAIN_KINDS, *ROW_KINDS)
_UNKNOWN = "files of another kind"


@dataclass
class Reading:
    """How text is read, and what came of it."""

    text_field: str | None = None
    """Where a row's text is; None: in one of the usual layouts."""
    render: Render = plain_chat
    """Lays a conversation out as text."""
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def read_path(path: Path, reading: Reading) -> Iterator[Document]:
    """The documents of a file, or of every file in a folder and below it, by name.

    A single text file (.txt, .md) is split at empty lines; in a folder with several, each is a document. Hidden files
    are left out.
    Raises CorpusError for a path that is missing, of no known kind, or damaged.
    """
    if not path.is_dir():
        yield from _file(path, reading, split=True)
        return
    files = _files(path, reading)
    split = sum(kind_of(file) in PLAIN_KINDS for file in files) == 1
    for file in files:
        yield from _file(file, reading, split=split)


def _files(folder: Path, reading: Reading) -> list[Path]:
    """The files of known kinds below a folder, by name; others are counted, hidden ones (._a.jsonl, .git) aren't."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    files = sorted(file for file in found if file.is_file())
    known = [file for file in files if kind_of(file) in KINDS]
    if not known:
        raise CorpusError(f"the folder {folder} has no text: put {', '.join(KINDS)} files there")
    if len(known) < len(files):
        reading.dropped[_UNKNOWN] += len(files) - len(known)
    return known


def _file(path: Path, reading: Reading, *, split: bool) -> Iterator[Document]:
    kind = kind_of(path)
    if kind in PLAIN_KINDS:
        yield from _plain(path, reading, split=split)
    elif kind in ROW_KINDS:
        wanted = KNOWN_FIELDS if reading.text_field is None else _heads(reading.text_field)
        for row in read_rows(path, wanted):
            yield document_of(row.values, row.where, reading.text_field, reading.render)
    else:
        raise CorpusError(
            f"{path} is of no known kind: give {', '.join(KINDS)} (.gz, .zst too), or a folder of these"
        )


def _heads(path: str) -> list[str]:
    """The top-level columns in which a.b.c may lie, and that of the topic."""
    parts = path.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))] + ["topic"]


def _plain(path: Path, reading: Reading, *, split: bool) -> Iterator[Document]:
    n, size = 0, 0
    held: list[str] = []
    with opened(path, newline=None) as text:
        for line in lines_of(text, path):
            if size == 0:
                _check_text(path, line)
            size += len(line)
            if size > MOST_LINE:
                raise CorpusError(
                    f"{path} has more than {MOST_LINE >> 20} million characters without an empty line"
                )
            if not split or line.strip():
                held.append(line)
            elif held:
                n += 1
                yield Document("".join(held))
                held, size = [], 1
    if held:
        n += 1
        yield Document("".join(held))
    if split and n > 1:
        reading.notes.append(f"{path.name} is split at empty lines into {n:,} documents")


def _check_text(path: Path, line: str) -> None:
    """Raises CorpusError for a first line full of NULs, as UTF-16 without its mark has."""
    if line.count("\x00") > len(line) / 4:
        raise CorpusError(f"{path} can't be read: it is not UTF-8 (it looks like UTF-16); save it as UTF-8")
