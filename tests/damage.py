"""Ways in which a run's files come to differ from what they were."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import duckdb

from mneme.store.run import Run
from mneme.store.schema import MIGRATIONS
from mneme.store.seals import ROOMS, seal_folders, seal_settings


def flip(file: Path, n: int = 24) -> None:
    """Turn `n` bytes in the middle of a file; its size and times stay."""
    stat = file.stat()
    with open(file, "r+b") as handle:
        handle.seek(stat.st_size // 2)
        turned = bytes(byte ^ 0x55 for byte in handle.read(n))
        handle.seek(stat.st_size // 2)
        handle.write(turned)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def cut(file: Path) -> None:
    """Leave half of a file."""
    os.truncate(file, file.stat().st_size // 2)


def reseal(run: Run) -> None:
    """Take the run's files for those that its tables were made from."""
    with run.stage_writer() as writer:
        writer.connection.execute("DELETE FROM artefacts")
        writer.append("artefacts", seal_settings(run.path))
        for room, stage in ROOMS.items():
            writer.append("artefacts", seal_folders(run.path, stage, [room]))


def make_older(run: Run, keep: tuple[str, ...] = ("betas", "latents")) -> None:
    """The run as the first release left it: no table or column that came later, but those of the tables to keep."""
    with duckdb.connect() as first:
        MIGRATIONS[0](first)
        known = set(first.execute("SELECT table_name, column_name FROM duckdb_columns()").fetchall())
    with run.stage_writer() as writer:
        columns = writer.connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        later = {table for table, _ in columns} - {table for table, _ in known}
        for table in later:
            writer.connection.execute(f"DROP TABLE {table}")
        for table, column in columns:
            if table not in later and (table, column) not in known and table not in keep:
                writer.connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        writer.connection.execute("ALTER TABLE latents RENAME COLUMN turned TO redirected")
        writer.connection.execute("DELETE FROM schema_version WHERE version > 1")


def written_by_another_duckdb(file: Path, storage_version: int = 9999, library: bytes = b"v9.9.9") -> None:
    """Change the header to that of another DuckDB, with the checksum it would have."""
    data = bytearray(file.read_bytes())
    (stored,) = struct.unpack_from("<Q", data, 0)

    def put(at: int, value: bytes) -> None:
        nonlocal stored
        word = at - at % 8
        (before,) = struct.unpack_from("<Q", data, word)
        data[at : at + len(value)] = value
        (after,) = struct.unpack_from("<Q", data, word)
        stored ^= _mixed(before) ^ _mixed(after)

    put(12, struct.pack("<I", storage_version))
    put(52, library[:4])
    put(56, library[4:].ljust(8, b"\0"))
    struct.pack_into("<Q", data, 0, stored)
    file.write_bytes(data)


def _mixed(word: int) -> int:
    """DuckDB's checksum of eight bytes; a block's is the xor of its words'."""
    return word * 0xBF58476D1CE4E5B9 % 2**64
