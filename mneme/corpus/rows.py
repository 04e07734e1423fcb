"""Read the rows of a table or of JSON out of a file: .jsonl, .json, .csv, .tsv, .parquet (packed too).

The one reader of what users hand over as rows: text, questions, sample logs, outcomes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pyarrow
import pyarrow.parquet

from mneme._util.errors import CorpusError, first_line
from mneme._util.reading import MOST_BYTES, check_regular, parse_json
from mneme._util.settings import one_line
from mneme.corpus.opened import MOST_LINE, MOST_RATIO, MOST_UNPACKED, PACKED, lines_of, opened

ROW_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """An object of a file, and where it stands."""

    values: dict[str, Any]
    where: str


def kind_of(path: Path) -> str:
    """.jsonl for x.jsonl, X.JSONL, x.jsonl.gz and x.ndjson."""
    suffix = path.suffix.casefold()
    suffix = Path(path.stem).suffix.casefold() if suffix in PACKED else suffix
    return ".jsonl" if suffix == ".ndjson" else suffix


def read_rows(path: Path, wanted: Collection[str] | None = None, *, kind: str = ".jsonl") -> Iterator[Row]:
    """The rows of a file of ROW_KINDS, in order; `wanted`: top-level fields that will do (parquet reads no others).

    A line of JSON ends at a newline only. A .json is a list of objects or of strings (whose field is `text`), or lines.
    A .csv is delimited by commas, semicolons or tabs, as its header shows. `kind` is that of a file whose name doesn't
    tell.
    Raises CorpusError for a file that can't be read or is none of these, naming the line.
    """
    told = kind_of(path)
    match told if told in ROW_KINDS else kind:
        case ".parquet":
            yield from _parquet(path, wanted)
        case ".csv" | ".tsv":
            with opened(path, newline="") as text:
                yield from _csv(path, text)
        case ".json":
            yield from _json(path)
        case _:
            with opened(path, newline="\n") as text:
                yield from _jsonl(path, text)


def _jsonl(path: Path, text: TextIO) -> Iterator[Row]:
    for number, line in enumerate(lines_of(text, path), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = parse_json(line)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{where} is no JSON: every line must be one object") from error
        except ValueError as error:  # a number of thousands of digits, lists in lists in lists
            raise CorpusError(f"{where} is no JSON that can be read: {first_line(error)}") from error
        if not isinstance(row, dict):
            raise CorpusError(f'{where} is no object: write {{"text": "..."}}')
        yield Row(row, where)


def _json(path: Path) -> Iterator[Row]:
    with opened(path, newline="\n") as text:
        whole = text.read(MOST_BYTES + 1)
    if len(whole) > MOST_BYTES:
        raise CorpusError(f"{path} is larger than {MOST_BYTES >> 20} MB: write an object a line, as .jsonl")
    try:
        rows = parse_json(whole)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise CorpusError(f"{path} is no JSON: {error}") from error
        with opened(path, newline="\n") as text:  # lines under the wrong name
            yield from _jsonl(path, text)
        return
    except ValueError as error:
        raise CorpusError(f"{path} is no JSON that can be read: {first_line(error)}") from error
    if isinstance(rows, dict):
        rows = next((value for value in rows.values() if isinstance(value, list)), [rows])
    if not isinstance(rows, list):
        raise CorpusError(f'{path} is no list: write [{{"text": "..."}}, ...]')
    for number, row in enumerate(rows, start=1):
        row = {"text": row} if isinstance(row, str) else row
        if not isinstance(row, dict):
            raise CorpusError(f'{path} item {number} is no object: write {{"text": "..."}}')
        yield Row(row, f"{path} item {number}")


def _csv(path: Path, text: TextIO) -> Iterator[Row]:
    for number, row, header in table_rows(path, text):
        if number == 0:
            continue
        where = f"{path} row {number + 1}"
        if any(cell.strip() for cell in row[len(header) :]):
            raise CorpusError(
                f"{where} has {len(row)} fields, the header {len(header)}: quote texts that hold the delimiter"
            )
        yield Row(dict(zip(header, row, strict=False)), where)


def table_rows(
    path: Path, text: TextIO, *, has_header: bool = True
) -> Iterator[tuple[int, list[str], list[str]]]:
    """(number, cells, the first row's cells) of each row that isn't blank.

    has_header: whether the first row are names, which tell the delimiter; else it is a comma where a comma parts the
    row into three cells or more. Raises CorpusError for what is no table, and for a quote that is never closed.
    """
    csv.field_size_limit(MOST_LINE)
    lines = lines_of(text, path)
    first = next((line for line in lines if line.strip()), "")
    delimiter = "\t" if kind_of(path) == ".tsv" else _delimiter(first, has_header)
    header: list[str] = []
    try:
        rows = csv.reader(_chained(first, lines), delimiter=delimiter, strict=True)
        for number, row in enumerate(row for row in rows if any(cell.strip() for cell in row)):
            if number == 0:
                header = [cell.strip() for cell in row]
            yield number, row, header
    except csv.Error as error:
        raise CorpusError(
            f"{path} is no table that can be read ({first_line(error)}): save it as CSV"
        ) from error


def _chained(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def _delimiter(line: str, has_header: bool) -> str:
    """The one of _DELIMITERS that parts a line, outside of quotes, into most cells."""

    def cells(delimiter: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=delimiter), []))
        except csv.Error:
            return 0

    if not has_header and cells(",") > 2:
        return ","
    return max(_DELIMITERS, key=cells)  # the first of equals


def _parquet(path: Path, wanted: Collection[str] | None) -> Iterator[Row]:
    try:
        most = max(MOST_UNPACKED, MOST_RATIO * check_regular(path))
        # A with block: pyarrow's reader holds the file open otherwise.
        with pyarrow.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            names = [name for name in schema.names if wanted is None or name in wanted]
            if not names:
                has = one_line(", ".join(schema.names))
                raise CorpusError(f"{path} has no column `text` (it has {has}): name one with --text-field")
            number, read = 0, 0
            # few rows at once: a page of kilobytes may hold one long text thousands of times
            for batch in file.iter_batches(batch_size=64, columns=names):
                if batch.nbytes > 4 * MOST_LINE:
                    raise CorpusError(
                        f"{path} has texts longer than any document near row {number + 1}: split them"
                    )
                for values in batch.to_pylist():
                    number += 1
                    read += sum(len(value) for value in values.values() if isinstance(value, str))
                    if read > most:
                        raise CorpusError(
                            f"{path} holds more than {MOST_RATIO} times its size, as no text does"
                        )
                    yield Row(values, f"{path} row {number}")
    except FileNotFoundError as error:
        raise CorpusError(f"no file at {path}: check the path") from error
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise CorpusError(f"{path} can't be read as parquet: {first_line(error)}; make it again") from error
