"""What DuckDB says of a file, in one line that tells health from damage and names who or what to turn to."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from mneme._util.errors import CorruptRunError, DiskFullError, MnemeError, RunError

_LOCKED = ("Could not set lock on file", "used by another process")
_OTHER_VERSION = ("storage version number", "database file with version number")
_DAMAGED = (
    "Corrupt database file",
    "Could not read enough bytes",
    "not a valid DuckDB database file",
    "does not match stored checksum",
    "database has been invalidated",
    "Failed to load metadata",
    "INTERNAL Error",
    "deserialize",
)
_FORBIDDEN = ("Permission denied", "Read-only file system", "read-only file system")
_HOLDER = re.compile(r"lock is held in (?P<program>.+?) \(PID (?P<pid>\d+)\)")
_HEADER = slice(52, 84)  # of the file: the library version that wrote it, padded with zeros


def explained(error: duckdb.Error, file: Path, advice: str) -> MnemeError | None:
    """What a DuckDB error says of a file, as an error of one line; None where the error isn't about the file.

    `advice`: what to do with a damaged one.
    """
    said = str(error)
    first = _short(said)
    if "No space left" in said:
        return DiskFullError(f"no space left where {file} lies: free some, then run the same command again")
    if is_held(error):
        return RunError(f"{file} is held by {_holder(said)}: close it there, then run the same command again")
    if any(words in said for words in _OTHER_VERSION):
        return RunError(
            f"{file} was written by DuckDB {written_by(file)}, which this DuckDB ({duckdb.__version__}) can't read:"
            " install that version of the package duckdb"
        )
    if "replaying WAL" in said or "WAL does not match" in said:
        log = wal(file)
        return RunError(
            f"{log} was left by another program and does not fit {file.name}, which is whole: move it away, e.g. to"
            f" {log.name}.old"
        )
    if any(words in said for words in _FORBIDDEN):
        return RunError(f"{file} can't be opened: check its permissions ({first})")
    if any(words in said for words in _DAMAGED) or isinstance(error, duckdb.InternalException):
        return CorruptRunError(f"{file} is damaged ({first}): {advice}")
    if isinstance(error, duckdb.IOException):
        return RunError(f"{file} can't be read ({first}): check the disk and the file's permissions")
    return None


def is_held(error: duckdb.Error) -> bool:
    """Whether another process holds the file."""
    return any(words in str(error) for words in _LOCKED)


def wal(file: Path) -> Path:
    """The file's write-ahead log."""
    return file.with_name(file.name + ".wal")


def written_by(file: Path) -> str:
    """The DuckDB that wrote the file, as its header has it."""
    try:
        with open(file, "rb") as handle:
            found = handle.read(_HEADER.stop)[_HEADER]
    except OSError:
        return "of another version"
    return found.rstrip(b"\0").decode("ascii", "replace").removeprefix("v") or "of another version"


def _holder(said: str) -> str:
    found = _HOLDER.search(said)
    if found is None:
        return "another process"
    return f"another process ({Path(found['program']).name}, process id {found['pid']})"


def _short(said: str) -> str:
    """The first line, without the kind of error before it or a path."""
    line = (said.splitlines() or [""])[0]
    return line.partition("Error: ")[2][:160] or line[:160]
