"""What the files were that a run's tables were made from, and whether they still are.

A stage seals the files it leaves for others (table `artefacts`, in the same step as its tables); whoever reads them
compares first. A file is read for that once a process, several at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mneme._util.errors import CorruptRunError, RunError
from mneme._util.files import known_sha256
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.store.manifest import read_manifest
from mneme.store.run import Run

SETTINGS = "run.toml"
_THREADS = 4  # that read at once: a disk gives no more
ROOMS = {"activations": "harvest", "crosscoder": "crosscoder", "codes": "attribution"}
"""Folders of a run that later stages read, and the stage that leaves them."""


class Seal(NamedTuple):
    """A file as it was."""

    stage: str
    file: str
    """Below the run's folder, with slashes."""
    bytes: int | None
    """None: not known."""
    sha256: str


def seal_folders(run: Path, stage: str, folders: Iterable[str]) -> pd.DataFrame:
    """Rows of `artefacts`: every file of these folders of a run, as it is now."""
    files = [
        path
        for folder in folders
        for path in sorted((run / folder).rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    ]
    return _rows(run, stage, files)


def seal_settings(run: Path) -> pd.DataFrame:
    """A row of `artefacts`: run.toml as it is now, with its text."""
    return _rows(run, SETTINGS, [run / SETTINGS]).assign(text=(run / SETTINGS).read_text(encoding="utf-8"))


def sealed_settings(run: Run) -> str | None:
    """The text of run.toml that the run's tables were made with; None of a run made before it was kept."""
    found = run.rows("SELECT text FROM artefacts WHERE stage = ?", [SETTINGS])
    return str(found[0][0]) if found else None


def seals(folder: Path, stages: Iterable[str] | None = None) -> list[Seal]:
    """The seals of files that a run's stages (None: all) left. Of a run made before there were any, what its manifest
    says."""
    run = Run(folder)
    if not run.database.exists():
        return []
    found = [
        Seal(*row) for row in run.rows("SELECT stage, file, bytes, sha256 FROM artefacts WHERE text IS NULL")
    ]
    known = {seal.stage for seal in found}
    found += [seal for seal in _of_manifest(run) if seal.stage not in known]
    return [seal for seal in found if stages is None or seal.stage in set(stages)]


def missing(folder: Path, stage: str) -> str | None:
    """The first file of a stage that isn't there, if any."""
    return next((seal.file for seal in seals(folder, [stage]) if not (folder / seal.file).exists()), None)


def check_seals(
    folder: Path,
    stages: Iterable[str],
    *,
    only: Sequence[str] | None = None,
    gone_ok: bool = False,
    progress: Progress = NULL_PROGRESS,
) -> None:
    """Compare the files of these stages (of them those named in `only`) with what they were. `gone_ok`: the caller
    does without a file that isn't there.

    Raises RunError for one that is missing, CorruptRunError for one that has changed; both name it and what to do.
    """
    found = [seal for seal in seals(folder, stages) if only is None or seal.file in only]
    if not found:
        return
    again = f"`mneme run {folder / SETTINGS} --out {folder}`"
    gone = [seal for seal in found if not (folder / seal.file).is_file()]
    for seal in gone:
        if not gone_ok:
            raise RunError(
                f"{folder / seal.file} is missing: {again} makes it again, and what follows from it"
            )
    found = [seal for seal in found if seal not in gone]
    with (
        progress.task("checking what earlier stages left", total=len(found), unit="files") as task,
        ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool,
    ):
        for seal, whole in zip(found, pool.map(lambda each: _whole(folder, each), found), strict=True):
            if not whole:
                raise CorruptRunError(_changed(folder, seal, again))
            task.advance()


def _changed(folder: Path, seal: Seal, again: str) -> str:
    file = folder / seal.file
    return (
        f"{file} is damaged, or not the file that the run's tables were made from (its SHA-256 differs): delete it,"
        f" then {again} makes it again, and what follows from it"
    )


def _whole(folder: Path, seal: Seal) -> bool:
    file = folder / seal.file
    if seal.bytes is not None and file.stat().st_size != seal.bytes:
        return False
    return known_sha256(file) == seal.sha256


def _rows(run: Path, stage: str, files: Sequence[Path]) -> pd.DataFrame:
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(known_sha256, files))
    return pd.DataFrame(
        {
            "stage": pd.Series([stage] * len(files), dtype=object),
            "file": pd.Series([path.relative_to(run).as_posix() for path in files], dtype=object),
            "bytes": pd.Series([path.stat().st_size for path in files], dtype="int64"),
            "sha256": pd.Series(hashes, dtype=object),
        }
    )


def _of_manifest(run: Run) -> list[Seal]:
    """What manifest.json says of the files of stages that it knows as they are now."""
    said = read_manifest(run.path)
    hashes, known = said.get("artefacts"), said.get("fingerprints")
    if not isinstance(hashes, dict) or not isinstance(known, dict):
        return []
    return [
        Seal(stage, str(name), None, str(digest))
        for name, digest in hashes.items()
        if (stage := ROOMS.get(str(name).partition("/")[0])) is not None
        and known.get(stage) == run.finished(stage)
    ]
