"""The analyst's notes and review verdicts, from analyst.duckdb beside the run.

The dashboard writes that file and may hold it open, so a copy is read. Its tables are found by their
columns: any table with a note or a review verdict counts, and columns that it lacks are empty.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from mneme.report.format import cut, missing
from mneme.report.model import Remark

_COLUMNS = {
    "latent": ("latent",),
    "verdict": ("verdict", "review", "decision", "status"),
    "note": ("note", "notes", "text", "comment"),
    "author": ("author", "analyst", "user"),
    "at": ("updated_at", "created_at", "at", "time"),
}


def read_remarks(folder: Path, limit: int = 500) -> tuple[Remark, ...]:
    """Notes and review verdicts of the run in `folder`, by latent; at most `limit`.

    Nothing when there is no analyst.duckdb. Raises duckdb.Error when the file can't be read.
    """
    source = folder / "analyst.duckdb"
    if not source.exists():
        return ()
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / source.name
        shutil.copyfile(source, copy)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{source}.wal", f"{copy}.wal")
        with duckdb.connect(str(copy)) as database:
            found = [remark for table in _tables(database) for remark in _remarks(database, *table)]
    return tuple(sorted(found, key=lambda r: (r.latent is None, r.latent or 0, r.at))[:limit])


def _tables(database: duckdb.DuckDBPyConnection) -> list[tuple[str, dict[str, str]]]:
    """(table, {field: column}) of the tables that hold a note or a verdict."""
    rows = database.execute(
        "SELECT table_name, list(column_name) FROM information_schema.columns GROUP BY 1 ORDER BY 1"
    ).fetchall()
    tables = []
    for table, columns in rows:
        chosen = {
            field: next((name for name in names if name in columns), "") for field, names in _COLUMNS.items()
        }
        if chosen["note"] or (chosen["verdict"] and chosen["latent"]):
            tables.append((table, chosen))
    return tables


def _remarks(database: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> list[Remark]:
    chosen = ", ".join(_quoted(name) if name else "NULL" for name in columns.values())
    rows = database.execute(f"SELECT {chosen} FROM {_quoted(table)}").fetchall()
    remarks = [
        Remark(_whole(latent), _text(verdict), _text(note), _text(author), _text(at))
        for latent, verdict, note, author, at in rows
    ]
    return [remark for remark in remarks if remark.verdict or remark.note]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _text(value: Any) -> str:
    return "" if missing(value) else cut(str(value), 2000)
