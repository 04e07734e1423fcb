"""The history of changes in RUN/analyst.duckdb: rows are added and never changed.

DuckDB lets one process write or several read. So the file is opened for each operation and closed after it; whoever
finds it held tries again for a while. Threads of one process take turns. A change is one transaction: a process
killed in the midst of it leaves all of it or none.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import duckdb

from mneme._util.errors import CorruptRunError, RunError
from mneme._util.files import translate_os_errors
from mneme.analyst.reviews import FIELDS, UNDO, Change, Review, encode, fold, last_action
from mneme.store.duckdb_errors import explained, is_held

FILE = "analyst.duckdb"
PATIENCE = 15.0
"""Seconds to wait for a file that another process holds."""
_TABLE = "review_history"
_COLUMNS = "action, changed_at, author, latent, field, value"
_CREATE = f"""CREATE TABLE {_TABLE} (
    action BIGINT, changed_at VARCHAR, author VARCHAR, latent INTEGER, field VARCHAR, value VARCHAR
)"""
_TURN = threading.RLock()


class History:
    """All that was ever said of the run in `folder`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE

    def stamp(self) -> tuple[int, ...]:
        """Differs when something was written: keys caches."""
        found: list[int] = []
        for file in (self.file, Path(f"{self.file}.wal")):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                found += [stat.st_ino, stat.st_mtime_ns, stat.st_size]
        return tuple(found)

    def changes(self) -> list[Change]:
        """Every change, in the order made; none where nobody said anything.

        Raises CorruptRunError for a damaged file, RunError when another process doesn't let go of it.
        """
        if not self.file.exists():
            return []
        with self._opened(read_only=True) as database:
            return _changes(database)

    def reviews(self) -> dict[int | None, Review]:
        """Latent -> what is said of it now; None is the run as a whole. Raises as `changes` does."""
        return fold(self.changes())

    def add(self, latent: int | None, author: str, **fields: Any) -> int:
        """Say something of a latent: any of verdict, note, tags, bookmark, label; an empty value clears. The action.

        Raises ValueError for a field or verdict that there is not and for none at all, else as `changes` does.
        """
        if not fields:
            raise ValueError(f"a review says something: give one of {', '.join(FIELDS)}")
        values = {field: encode(field, value) for field, value in fields.items()}
        with self._writing() as database:
            return _append(database, latent, author, values)

    def undo(self, latent: int | None, author: str) -> int | None:
        """Take back the author's last action on the latent that still holds; which it was, None if there is none."""
        with self._writing() as database:
            action = last_action(_changes(database), latent, author)
            if action is not None:
                _append(database, latent, author, {UNDO: str(action)})
            return action

    @contextlib.contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction on the file, made where there is none."""
        if "?" in str(self.folder.absolute()):
            raise RunError(
                f"{self.file} can't be written: DuckDB takes what follows a ? in a folder's name for options;"
                " rename the folder"
            )
        with translate_os_errors(self.folder):
            if not self.file.exists():
                self._make()
            with self._opened(read_only=False) as database:
                database.begin()
                yield database
                database.commit()

    def _make(self) -> None:
        """Make the file elsewhere and link it into place: DuckDB refuses one that is there but not whole."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".analyst-") as temporary:
            made = Path(temporary) / FILE
            with duckdb.connect(str(made)) as database:
                database.execute(_CREATE)
            with contextlib.suppress(FileExistsError):
                os.link(made, self.file)

    @contextlib.contextmanager
    def _opened(self, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        with _TURN:
            database = self._connect(read_only)
            try:
                yield database
            except duckdb.CatalogException as error:
                raise CorruptRunError(
                    f"{self.file} holds no reviews: move it away to start another one"
                ) from error
            except duckdb.Error as error:
                self._tell(error)
            finally:
                database.close()

    def _tell(self, error: duckdb.Error) -> NoReturn:
        """Raise what DuckDB says of the file in one line; reviews can't be made again, so nothing is to be deleted."""
        aside = (
            f"move it away, e.g. to {FILE}.damaged, to start another one; nothing that was said is deleted"
        )
        told = explained(error, self.file, aside)
        if told is None:
            raise error
        raise told from error

    def _connect(self, read_only: bool) -> duckdb.DuckDBPyConnection:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return duckdb.connect(str(self.file), read_only=read_only)
            except duckdb.ConnectionException:
                # Somebody else in this process has it open for writing: share that.
                return duckdb.connect(str(self.file))
            except duckdb.Error as error:
                if not is_held(error) or time.monotonic() > deadline:
                    self._tell(error)
            time.sleep(random.uniform(0.005, 0.05))


def _changes(database: duckdb.DuckDBPyConnection) -> list[Change]:
    rows = database.execute(f"SELECT {_COLUMNS} FROM {_TABLE} ORDER BY action, rowid").fetchall()
    return [Change(*row) for row in rows]


def _append(
    database: duckdb.DuckDBPyConnection, latent: int | None, author: str, values: dict[str, str | None]
) -> int:
    action: int = database.execute(f"SELECT coalesce(max(action), 0) + 1 FROM {_TABLE}").fetchall()[0][0]
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    database.executemany(
        f"INSERT INTO {_TABLE} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
        [[action, at, author, latent, field, value] for field, value in values.items()],
    )
    return action
