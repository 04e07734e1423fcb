"""Writing to a run: one writer at a time, and a manifest that is true when it ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mneme._util.errors import MnemeError, RunError
from mneme._util.files import check_place, known_sha256, lock_file, translate_os_errors
from mneme._util.versions import versions
from mneme.store.manifest import read_manifest, write_json
from mneme.store.run import Run
from mneme.store.seals import ROOMS, seals

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the run for writing; the lock goes with the process, however it ends.

    Raises RunError when another process holds it or the folder can't be written.
    """
    check_place(folder)
    with contextlib.ExitStack() as stack:
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(lock_file(folder / "run.lock"))
        if not held:
            raise RunError(
                f"another mneme works in {folder}: wait until it is done, or work in another folder"
            )
        yield


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """manifest.json: the facts, versions and the SHA-256 of every artefact of the run."""
    _write_manifest(folder, {**facts, "versions": versions()})


def refresh_manifest(folder: Path, facts: dict[str, Any] | None = None) -> None:
    """Make manifest.json true: fingerprints of the stages that are done, a hash for each artefact there is.

    What else it says, `facts` replace; without them it stays. Nothing where there are no tables yet.
    """

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
    write_json(folder, {**facts, "artefacts": _artefacts(folder)})


def _artefacts(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of all that belongs to the run. Those that its tables were made from: as they were then."""

    run = Run(folder)
    skipped = {
        "manifest.json",
        "progress.json",
        "run.lock",
        "analyst.duckdb",
        "evidence.json",
        "evidence.lock",
    }
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
            try:
                refresh_manifest(folder)
            except (MnemeError, OSError):  # what went wrong first is told
                _log.debug("manifest.json was not written", exc_info=True)
            raise
        refresh_manifest(folder)
