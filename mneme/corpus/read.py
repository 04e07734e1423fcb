"""Read documents out of files: .txt, .jsonl (also .gz, .zst), .parquet, .csv, and folders of these."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow
import pyarrow.parquet
import zstandard

from mneme._util.errors import CorpusError
from mneme.corpus.corpus import Document

TEXT_FIELDS = ("text", "content")
_SUFFIXES = (".txt", ".md", ".jsonl", ".parquet", ".csv")
_PACKED = (".gz", ".zst")
_DAMAGED = (
    OSError,
    EOFError,
    UnicodeDecodeError,
    zlib.error,
    zstandard.ZstdError,
    pyarrow.ArrowException,
)


def read_path(path: Path) -> Iterator[Document]:
    """The documents of a file, or of every file in a folder and below it, by name.

    Raises CorpusError for a path that is missing, of no known kind, or damaged.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) in _SUFFIXES)
        if not files:
            raise CorpusError(f"the folder {path} has no text: put {', '.join(_SUFFIXES)} files there")
        for file in files:
            yield from read_path(file)
        return
    suffix = _suffix(path)
    if suffix not in _SUFFIXES:
        raise CorpusError(
            f"{path} is of no known kind: give {', '.join(_SUFFIXES)} (.gz, .zst too), or a folder of these"
        )
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
            return
        with _open_text(path) as lines:
            if suffix == ".jsonl":
                yield from _jsonl(path, lines)
            elif suffix == ".csv":
                yield from _csv(path, lines)
            else:
                yield Document(lines.read())
    except FileNotFoundError as error:
        raise CorpusError(f"no corpus at {path}: check the path, or use --corpus bundled") from error
    except _DAMAGED as error:
        raise CorpusError(
            f"{path} can't be read ({type(error).__name__}): make it again, as UTF-8"
        ) from error


def _suffix(path: Path) -> str:
    """.jsonl for x.jsonl, x.jsonl.gz and x.jsonl.zst."""
    return Path(path.stem).suffix if path.suffix in _PACKED else path.suffix


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().stream_reader(
            path.open("rb"), closefd=True, read_across_frames=True
        )
        return io.TextIOWrapper(raw, encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _jsonl(path: Path, lines: TextIO) -> Iterator[Document]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise CorpusError(f"{path} line {number} is no JSON: every line must be one object") from error
        if not isinstance(row, dict):
            raise CorpusError(f'{path} line {number} is no object: write {{"text": "..."}}')
        yield _document(row, f"{path} line {number}")


def _csv(path: Path, lines: TextIO) -> Iterator[Document]:
    csv.field_size_limit(sys.maxsize)
    try:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            yield _document(row, f"{path} row {number}")
    except csv.Error as error:
        raise CorpusError(f"{path} is no CSV ({error}): give a file with a column `text`") from error


def _parquet(path: Path) -> Iterator[Document]:
    # A with block: pyarrow's reader holds the file open otherwise.
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        wanted = [name for name in (*TEXT_FIELDS, "topic") if name in names]
        if not any(name in TEXT_FIELDS for name in wanted):
            raise CorpusError(f"{path} has no column `text` (it has {', '.join(names)}): rename one")
        for batch in file.iter_batches(batch_size=1024, columns=wanted):
            for row in batch.to_pylist():
                yield _document(row, str(path))


def _document(row: dict[str, Any], where: str) -> Document:
    """The text and topic of a row; an empty text is dropped later."""
    for name in TEXT_FIELDS:
        if name in row:
            text, topic = row[name], row.get("topic")
            if text is not None and not isinstance(text, str):
                break
            return Document(text or "", None if topic in (None, "") else str(topic))
    raise CorpusError(f"{where} has no text: give it a field `text` (or `content`) that holds a string")
