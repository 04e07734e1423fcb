"""Files of a run: written whole or not at all, one writer at a time, described by a manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import mneme
from mneme.errors import RunError
from mneme.store.run import translate_os_errors

_VERSIONS = ("torch", "transformers", "nnsight", "numpy", "duckdb", "umap-learn")


def write_text(path: Path, text: str) -> None:
    """Write a text file through a temporary one, so that a killed process leaves the old or the new."""
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the run for writing; the lock goes with the process, however it ends.

    Raises RunError when another process holds it or the folder can't be written.
    """
    with contextlib.ExitStack() as stack:
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(lock_file(folder / "run.lock"))
        if not held:
            raise RunError(f"another mneme works in {folder}: wait, or choose another --out")
        yield


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


def check_place(folder: Path) -> None:
    """Raises RunError where the folder is not there and can't be made, or can't be written; makes nothing."""
    standing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        raise RunError(f"{folder} can't be written: choose another folder with --out")


def sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """What computed the numbers: Python and the packages that matter."""
    found = {"python": platform.python_version(), "mneme": mneme.__version__}
    for name in _VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json, {} where there is none that can be read."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """manifest.json: the facts, versions and the SHA-256 of every artefact of the run."""
    skipped = {"manifest.json", "progress.json", "run.lock", "analyst.duckdb"}
    of_pages = {"probe", "compare"}  # what people asked of the finished run
    artefacts = {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in skipped
        and path.relative_to(folder).parts[0] not in of_pages
        and not path.relative_to(folder).parts[0].startswith("search")  # made again at any time
        and path.suffix not in {".tmp", ".wal", ".log"}
    }
    text = json.dumps({**facts, "versions": versions(), "artefacts": artefacts}, indent=2, sort_keys=True)
    write_text(folder / "manifest.json", text + "\n")
