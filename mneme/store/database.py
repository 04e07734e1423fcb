"""DuckDB files of a run: opened with patience, checked when opened, and what is wrong with one told in one line.

A file that another process holds, that another DuckDB wrote, or that has a stranger's write-ahead log beside it is
healthy: only what fails DuckDB's own checks, or lacks tables, is called damaged, and nobody is told to delete it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import duckdb

from mneme._util.errors import CorruptRunError, NewerSchemaError, RunError
from mneme.store.duckdb_errors import explained, is_held, wal
from mneme.store.manifest import rehash
from mneme.store.schema import MIGRATIONS, SCHEMA_VERSION

_log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds to wait for a file that another process holds."""

CANNOT_WRITE = (errno.EACCES, errno.EROFS, errno.EPERM)

_impatient: dict[Path, float] = {}  # file -> until when it isn't waited for again
_GRUDGE = 30.0


def waiting(open_: Callable[[], duckdb.DuckDBPyConnection], file: Path) -> duckdb.DuckDBPyConnection:
    """What `open_` gives, tried again for PATIENCE seconds while another process holds the file.

    Whoever was waited for in vain is not waited for again for a while: a page that lists runs is not to stand still.
    """
    deadline = time.monotonic() + (PATIENCE if time.monotonic() > _impatient.get(file, 0.0) else 0.0)
    while True:
        try:
            connection = open_()
        except duckdb.Error as error:
            if not is_held(error):
                raise
            if time.monotonic() >= deadline:
                _impatient[file] = time.monotonic() + _GRUDGE
                raise
            _log.debug("another process holds %s: waiting", file)
            time.sleep(0.1)
        else:
            _impatient.pop(file, None)
            return connection


def repair(folder: Path) -> str:
    """What to do about a damaged run.duckdb, for an error's end. What was paid for lies elsewhere, and stays."""
    return (
        f"move it away, e.g. to run.duckdb.damaged, and `mneme run {folder / 'run.toml'} --out {folder}` makes it"
        " again; activations, paid labels and reviews lie beside it and stay"
    )


@contextlib.contextmanager
def telling(file: Path) -> Iterator[None]:
    """DuckDB's errors about a run's database become errors of one line."""
    try:
        yield
    except duckdb.Error as error:
        told = explained(error, file, repair(file.parent))
        if told is None:
            raise
        raise told from error


def open_to_read(file: Path) -> duckdb.DuckDBPyConnection:
    """A connection whose schema `run` is the file's, read-only, with all tables of this version.

    A run of an older schema is brought up to date first: in its folder, or, where that can't be written, in a copy
    that goes with the process. Raises RunError, CorruptRunError or NewerSchemaError.
    """
    with telling(file):
        connection = waiting(lambda: _attached(file), file)
        try:
            version = _version(connection, file)
            if version == SCHEMA_VERSION:
                _check_tables(connection, file)
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
        return _attached(_migrated(file))


def open_to_write(file: Path, told_as: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection to a file that is the caller's own (a copy, or a new one), brought up to this version's schema.

    told_as: the file that errors name.
    """
    named = told_as or file
    with telling(named):
        connection = duckdb.connect(str(file))
        try:
            version = _version(connection, named, new=True)
            for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
                migration(connection)
                connection.execute("INSERT INTO schema_version VALUES (?)", [number])
            _check_tables(connection, named)
        except BaseException:
            connection.close()
            raise
    return connection


def check_blocks(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Read every block of every table, so that DuckDB compares its checksums. Raises CorruptRunError."""
    with telling(file):
        for (table,) in connection.execute("SHOW TABLES").fetchall():
            connection.execute(f'SELECT count(hash(t)) FROM "{table}" t').fetchall()


@contextlib.contextmanager
def working_copy(file: Path, name: str = "tmp") -> Iterator[Path]:
    """A path for a copy of the database to be written, with its log; what is there at the end replaces the file.

    It lies beside the file, or, where a `?` in the folder's name keeps DuckDB from writing there (it takes what
    follows for options), in the system's temporary folder.
    """
    with contextlib.ExitStack() as cleanup:
        if "?" in str(file.absolute()):
            elsewhere = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mneme-")))
            temporary = elsewhere / file.name
        else:
            temporary = file.with_name(f"{file.name}.{name}")
        final = file.with_name(f"{file.name}.{name}")
        for stale in (temporary, wal(temporary), final):
            cleanup.callback(stale.unlink, missing_ok=True)
            stale.unlink(missing_ok=True)
        if file.exists():
            shutil.copyfile(file, temporary)
            if (log := wal(file)).exists():  # what another program wrote and didn't bring into the file yet
                shutil.copyfile(log, wal(temporary))
        yield temporary
        if temporary != final:
            shutil.copyfile(temporary, final)
        _replace(file, final)


def _replace(file: Path, whole: Path) -> None:
    """Put a whole file in the place of another, whose log, if there is one, is in it already."""
    log = wal(file)
    merged = log.with_name(log.name + ".merged")
    if log.exists():
        os.replace(log, merged)  # first: beside the new file it would not fit
    os.replace(whole, file)
    merged.unlink(missing_ok=True)


def _attached(file: Path) -> duckdb.DuckDBPyConnection:
    # Attached to an instance of its own: a second connect() to a path answers from the file that was there first, even
    # after a stage has replaced it.
    connection = duckdb.connect()
    try:
        quoted = str(file.absolute()).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS run (READ_ONLY)")
        connection.execute("USE run")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: duckdb.DuckDBPyConnection, file: Path, *, new: bool = False) -> int:
    """The schema's; 0 of a `new` file without tables. Raises RunError for another program's or a newer one."""
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    version = 0
    if "schema_version" in tables:
        version = connection.execute("SELECT max(version) FROM schema_version").fetchall()[0][0] or 0
    elif tables or not new:
        raise RunError(f"{file} is not a mneme run: it holds another program's tables; name another folder")
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{file} was written by a later mneme (schema {version}, this one reads {SCHEMA_VERSION}):"
            " install the newer version"
        )
    return version


def _check_tables(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Raises CorruptRunError where a table or column of the schema is not there."""
    there = _columns(connection)
    for table, columns in expected_columns().items():
        if table not in there:
            raise CorruptRunError(f"{file} lacks the table {table}: {repair(file.parent)}")
        if missing := sorted(columns - there[table]):
            raise CorruptRunError(f"{file} lacks {missing[0]} in the table {table}: {repair(file.parent)}")


@cache
def expected_columns() -> dict[str, set[str]]:
    """Table -> its columns, of this version's schema."""
    with duckdb.connect() as connection:
        for migration in MIGRATIONS:
            migration(connection)
        return _columns(connection)


def _columns(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns()"
        " WHERE database_name = current_database() AND NOT internal"
    ).fetchall():
        found.setdefault(table, set()).add(column)
    return found


_MIGRATING = threading.Lock()
_COPIES: dict[tuple[Path, int, int], tempfile.TemporaryDirectory[str]] = {}


def _migrated(file: Path) -> Path:
    """The file brought up to date in its place, or a copy that is, where its folder can't be written."""
    with _MIGRATING:
        stat = file.stat()
        key = (file.absolute(), stat.st_ino, stat.st_mtime_ns)
        if key in _COPIES:
            return Path(_COPIES[key].name) / file.name
        try:
            with working_copy(file, f"{os.getpid()}.tmp") as temporary:
                open_to_write(temporary, file).close()
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
        else:
            rehash(file)
            return file
        _COPIES[key] = tempfile.TemporaryDirectory(prefix="mneme-")
        copy = Path(_COPIES[key].name) / file.name
        shutil.copyfile(file, copy)
        open_to_write(copy, file).close()
        return copy
