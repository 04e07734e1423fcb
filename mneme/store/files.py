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
from mneme._util.errors import MnemeError, RunError
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
            raise RunError(
                f"another mneme works in {folder}: wait until it is done, or work in another folder"
            )
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
        raise RunError(f"{folder} can't be written: make it writable, or work in another folder")


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
    _write_manifest(folder, {**facts, "versions": versions()})


def refresh_manifest(folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Make manifest.json true: fingerprints of the stages that are done, a hash for each artefact there is.

    What else it says, `facts` replace; without them it stays. Nothing where there are no tables yet.
    """
    from mneme.store.run import Run

    run = Run(folder)
    if not run.database.exists():
        return
    before = read_manifest(folder)
    said = {**before, **(facts or {})}
    inputs = run.info().get("inputs", (said.get("fingerprints") or {}).get("inputs"))
    done = {str(stage): str(value) for stage, value in run.rows("SELECT stage, fingerprint FROM stages")}
    fingerprints = done | ({"inputs": inputs} if inputs else {})
    said = {"versions": versions(), **said, "fingerprints": fingerprints}
    if before.get("artefacts") != _artefacts(folder) or any(before.get(key) != said[key] for key in said):
        _write_manifest(folder, said)


def _write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    text = json.dumps({**facts, "artefacts": _artefacts(folder)}, indent=2, sort_keys=True)
    write_text(folder / "manifest.json", text + "\n")


def _artefacts(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of all that belongs to the run. Those that its tables were made from: as they were then."""
    from mneme.store.run import Run
    from mneme.store.seals import ROOMS, seals

    run = Run(folder)
    skipped = {"manifest.json", "progress.json", "run.lock", "analyst.duckdb"}
    of_pages = {"probe", "compare"}  # what people asked of the finished run
    sealed = {seal.file: seal for seal in seals(folder)}
    unfinished = {room for room, stage in ROOMS.items() if run.finished(stage) is None}
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (
            not path.is_file()
            or path.name in skipped
            or name.parts[0] in of_pages | unfinished
            or name.parts[0].startswith("search")  # made again at any time
            or path.suffix in {".tmp", ".wal", ".log", ".partial"}
        ):
            continue
        if (seal := sealed.get(name.as_posix())) is not None:
            found[name.as_posix()] = seal.sha256
            continue
        with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
            found[name.as_posix()] = known_sha256(path)
    return found


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the run for writing, as `only_writer`; at the end, however it comes, manifest.json is true."""
    with only_writer(folder):
        try:
            yield
        except BaseException:
            with contextlib.suppress(MnemeError, OSError):  # what went wrong first is told
                refresh_manifest(folder)
            raise
        refresh_manifest(folder)
