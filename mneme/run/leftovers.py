"""What runs and mneme left on the disk that nothing needs: found by rules, deleted only when asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mneme.run.queue import process_of
from mneme.store.queries.runs import list_runs

_HALF_WRITTEN = ("*.tmp", "*/*.tmp")


class Leftover(NamedTuple):
    """A file or folder."""

    path: Path
    size: int
    """bytes"""
    why: str


def leftovers(folder: Path) -> list[Leftover]:
    """Half-written files, checkpoints of finished trainings, runs that stopped before their first stage was done; and
    mneme's cache of converted models. Runs under way are left alone."""
    found = [_leftover(path, why) for path, why in _of_runs(folder)]
    cache = Path(os.environ.get("MNEME_CACHE", Path.home() / ".cache" / "mneme"))
    found += [_leftover(path, "cache: converted again when it is needed") for path in sorted(cache.glob("*"))]
    return found


def _of_runs(folder: Path) -> Iterator[tuple[Path, str]]:
    for entry in list_runs(folder):
        run = folder / entry.name
        if process_of(run) is not None:
            continue
        if (
            not entry.stages
            and not (run / "analyst.duckdb").exists()
            and entry.state in ("failed", "cancelled", "refused", "running")
        ):
            yield run, "a run that stopped before its first stage was done"
            continue
        if "crosscoder" in entry.stages and (run / "checkpoint").is_dir():
            yield run / "checkpoint", "checkpoint of a training that is finished"
        for pattern in _HALF_WRITTEN:
            for file in sorted(run.glob(pattern)):
                yield file, "half-written"


def delete(found: Sequence[Leftover]) -> None:
    """Delete them; what is gone already is no error."""
    for each in found:
        if each.path.is_dir() and not each.path.is_symlink():
            shutil.rmtree(each.path, ignore_errors=True)
        else:
            each.path.unlink(missing_ok=True)


def _leftover(path: Path, why: str) -> Leftover:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return Leftover(path, sum(file.lstat().st_size for file in files), why)
