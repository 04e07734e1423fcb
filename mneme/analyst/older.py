"""Files of earlier layouts: any table with a note or a review verdict counts, whatever its columns are called."""

from __future__ import annotations

from typing import Any

import duckdb

from mneme.analyst.reviews import VERDICTS, Change

_NAMES = {
    "latent": ("latent",),
    "verdict": ("verdict", "review", "decision", "status"),
    "note": ("note", "notes", "text", "comment"),
    "author": ("author", "analyst", "user"),
    "at": ("updated_at", "created_at", "at", "time"),
}
_VERDICT = {
    "accepted": "accept",
    "rejected": "reject",
    "needs work": "needs-work",
    "needs_work": "needs-work",
}


def older_changes(database: duckdb.DuckDBPyConnection) -> list[Change]:
    """What such a file says, as changes, an action a row.

    Notes on one latent are put together, a verdict of another name becomes a note: nothing is lost.
    """
    notes: dict[int | None, list[str]] = {}
    found = []
    rows = [row for table, columns in _tables(database) for row in _rows(database, table, columns)]
    rows.sort(key=lambda row: str(row[4] or ""))
    for action, (number, verdict, note, author, at) in enumerate(rows, start=1):
        latent = number if isinstance(number, int) else None
        said = _text(verdict)
        verdict = _VERDICT.get(said.lower(), said.lower())
        if verdict not in VERDICTS:
            note, verdict = "\n".join(filter(None, (said, _text(note)))), ""
        if verdict:
            found.append(Change(action, _text(at), _text(author), latent, "verdict", verdict))
        if _text(note):
            notes.setdefault(latent, []).append(_text(note))
            together = "\n".join(notes[latent])
            found.append(Change(action, _text(at), _text(author), latent, "note", together))
    return found


def _tables(database: duckdb.DuckDBPyConnection) -> list[tuple[str, dict[str, str]]]:
    """(table, {field: column}) of the tables that hold a note or a verdict."""
    rows = database.execute(
        "SELECT table_name, list(column_name) FROM information_schema.columns GROUP BY 1 ORDER BY 1"
    ).fetchall()
    tables = []
    for table, columns in rows:
        chosen = {
            field: next((name for name in names if name in columns), "") for field, names in _NAMES.items()
        }
        if chosen["note"] or (chosen["verdict"] and chosen["latent"]):
            tables.append((table, chosen))
    return tables


def _rows(database: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> list[tuple]:
    chosen = ", ".join(_quoted(name) if name else "NULL" for name in columns.values())
    return database.execute(f"SELECT {chosen} FROM {_quoted(table)}").fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
