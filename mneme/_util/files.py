"""Atomic file writes, locks and hashes; disk errors become one-line messages."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mneme._util.errors import DiskFullError, RunError


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file to write beside `path`, which takes its place at the end: a killed process leaves the old or
    the new, never half of one. What fails leaves nothing behind. `durable`: so does a machine that loses its power.

    Raises DiskFullError and RunError as `translate_os_errors` does.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if durable:
                with open(temporary, "rb") as handle:
                    os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all; its folder is made."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """A full disk or a folder that can't be written becomes an error that names the fix."""
    try:
        yield
    except Exception as error:  # of DuckDB and safetensors too, which know no errno
        number = getattr(error, "errno", None)
        if number == errno.ENOSPC or "No space left" in str(error):
            raise DiskFullError(
                f"no space left where {path} lies: free some, then run the same command again"
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ELOOP):
            raise RunError(f"{path} can't be written: make it writable, or work in another folder") from error
        raise


def check_place(folder: Path) -> None:
    """Raises RunError where the folder is not there and can't be made, or can't be written; makes nothing."""
    try:
        broken = folder.is_symlink() and not folder.exists()
        no_folder = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name of hundreds of characters
        raise RunError(
            f"{str(folder)[:60]}... can't be a folder ({error.strerror}): name another one"
        ) from error
    if no_folder:
        raise RunError(f"{folder} is no folder: name another one with --out")
    if broken:
        raise RunError(
            f"{folder} is a link to nothing ({os.readlink(folder)}): name another folder with --out"
        )
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RunError(f"{folder} can't be written: make it writable, or work in another folder")


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Whether this process now holds the lock of a file, without waiting for it.

    It is given back at the end, and when the process ends, however it does. The file stays.
    """
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


_KNOWN: dict[Path, tuple[tuple[int, ...], str]] = {}  # file -> what it was when it was read, and its hash


def known_sha256(path: Path) -> str:
    """SHA-256 of a file, hex; read once a process, as long as the file system says it is the same."""
    path = path.absolute()
    with open(path, "rb") as handle:
        stat = os.fstat(handle.fileno())
        stamp = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        held = _KNOWN.get(path)
        if held is None or held[0] != stamp:
            held = stamp, hashlib.file_digest(handle, "sha256").hexdigest()
            _KNOWN[path] = held
    return held[1]
