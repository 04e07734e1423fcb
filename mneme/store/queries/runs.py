"""The folder of runs: which there are, and what each holds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from mneme._util.errors import MnemeError
from mneme.store.run import open_run

_log = logging.getLogger(__name__)

_FACTS = ("base", "tuned", "layer", "latents", "n_tokens", "corpus", "created_at", "verdict_sentence")


class RunEntry(NamedTuple):
    """A run as the list shows it."""

    name: str
    facts: dict[str, str]
    stages: tuple[str, ...]
    state: str
    """From progress.json: running, finished, failed, cancelled; or 'finished' without one."""
    error: str | None
    """Why it can't be read, or why it failed."""


class Measured(NamedTuple):
    """How long a finished run's stages took, and its sizes."""

    name: str
    base: str
    tuned: str
    tokens: int
    latents: int
    width: int
    seconds: dict[str, float]
    """Stage -> seconds."""


def measured_runs(folder: Path) -> list[Measured]:
    """Finished runs that were really made, the newest first; made-up and unreadable ones are left out."""
    found = []
    for name in run_names(folder):
        try:
            run = open_run(folder / name)
            info = run.info()
            took = dict(run.rows("SELECT stage, seconds FROM stages WHERE seconds IS NOT NULL"))
        except MnemeError as error:
            _log.debug("%s is left out of estimates: %s", name, error)
            continue
        if info.get("synthetic") == "true" or not {"harvest", "crosscoder", "attribution"} <= took.keys():
            continue
        tokens, latents, width = (int(info.get(key) or 0) for key in ("n_tokens", "latents", "width"))
        found.append(
            Measured(name, info.get("base", ""), info.get("tuned", ""), tokens, latents, width, took)
        )
    return found


def list_runs(folder: Path) -> list[RunEntry]:
    """Every run in a folder, the newest first; broken ones too, with the reason."""
    if not folder.is_dir():
        return []
    found = [
        child
        for child in folder.iterdir()
        if child.is_dir() and ((child / "run.duckdb").exists() or (child / "progress.json").exists())
    ]
    found.sort(key=lambda child: child.stat().st_mtime, reverse=True)
    return [_entry(child) for child in found]


def run_names(folder: Path) -> list[str]:
    """Names of the runs that have tables to look at, the newest first."""
    if not folder.is_dir():
        return []
    found = [(db.stat().st_mtime, db.parent.name) for db in folder.glob("*/run.duckdb")]
    return [name for _, name in sorted(found, reverse=True)]


def read_progress(path: Path) -> dict[str, Any] | None:
    """What a run's progress.json says, or None; see `mneme._util.console.FileProgress`."""
    try:
        found = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _entry(path: Path) -> RunEntry:
    progress = read_progress(path) or {}
    state, error = str(progress.get("state") or "finished"), progress.get("error")
    if not (path / "run.duckdb").exists():
        return RunEntry(path.name, {}, (), state, error)
    try:
        run = open_run(path)
        info = run.info()
        stages = tuple(name for (name,) in run.rows("SELECT stage FROM stages ORDER BY finished_at"))
    except MnemeError as reason:
        return RunEntry(path.name, {}, (), "unreadable", str(reason))
    return RunEntry(path.name, {k: info[k] for k in _FACTS if k in info}, stages, state, error)
