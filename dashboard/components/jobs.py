"""Runs started from the page: a process of their own, followed through files in the run's folder.

Nothing is held in this process, so a reload or a restarted server loses no run: progress.json says where it
stands, dashboard.log what it said.
"""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import tomlkit

from dashboard.components import words
from mneme._util.settings import Difference
from mneme.config import make_config
from mneme.run.queue import LOG, RunQueue, anything_runs, launch, process_of
from mneme.run.replacing import lost_to_settings
from mneme.run.stages import STAGES
from mneme.store.queries.runs import RunEntry, read_progress
from mneme.store.run import Run

SETTINGS = "dashboard.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class Request(NamedTuple):
    """What the form asks for."""

    name: str
    base: str
    tuned: str
    corpus: str
    layer: int | None
    latents: int
    k: int
    tokens: int | None
    load: str


class TaskView(NamedTuple):
    """One bar."""

    name: str
    share: float
    done_text: str
    note: str


class Job(NamedTuple):
    """A run under way or just stopped."""

    name: str
    state: str
    tasks: list[TaskView]
    error: str | None
    log: str


def inside(folder: Path, text: str) -> Path | None:
    """The path `text` names below `folder`, links followed; None when it leads elsewhere."""
    root = folder.resolve()
    path = (root / text).resolve()
    return path if path.is_relative_to(root) and path != root else None


def problem_with(folder: Path, request: Request) -> str | None:
    """Why a request can't be started, in a sentence, or None."""
    if not _NAME.fullmatch(request.name) or inside(folder, request.name) is None:
        return "Give the run a name of letters, digits, dots, - and _."
    if is_running(folder, request.name):
        return "A run of this name is under way."
    if request.name in {turn.name for turn in RunQueue(folder).turns()}:
        return "A run of this name waits for its turn."
    for what, text in (("base model", request.base), ("tuned model", request.tuned)):
        if not text.strip():
            return f"Name the {what}."
        if not text.startswith("bundled:") and not _allowed(folder, text):
            return f"The {what} must be a hub id, or a folder inside the runs folder."
    if not (
        request.corpus == "bundled"
        or request.corpus.startswith(("bundled:", "hf:"))
        or _local(folder, request.corpus)
    ):
        return "The text must be 'bundled', hf:NAME, or a file inside the runs folder."
    if request.load.strip() and not _allowed(folder, request.load):
        return "The crosscoder must be a hub id, or a folder inside the runs folder."
    if request.k >= request.latents:
        return "Fewer latents must be active than there are."
    return None


def would_replace(folder: Path, request: Request) -> list[Difference]:
    """Settings of a run of this name that differ from the request's, where something that it has finished would go."""
    path = inside(folder, request.name)
    if path is None or not (path / "run.duckdb").exists():
        return []
    sections = {stage.name: stage.settings for stage in STAGES}
    sections["harvest"] += ("base", "tuned", "corpus")
    return lost_to_settings(Run(path), make_config(settings_from(folder, request)), sections)


def start(folder: Path, request: Request, *, replace: bool = False) -> None:
    """Start a run in the background, or let it wait its turn; `problem_with` must have found none.

    replace: what a run of this name has finished may go, if the settings ask for others.
    """
    target = inside(folder, request.name)
    if target is None:
        raise ValueError(request.name)
    target.mkdir(parents=True, exist_ok=True)
    settings = target / SETTINGS
    settings.write_text(tomlkit.dumps(settings_from(folder, request)), encoding="utf-8")
    arguments = ["run", str(settings), "--out", str(target)]
    _begin(folder, request.name, [*arguments, "--replace"] if replace else arguments)


def resume(folder: Path, name: str) -> None:
    """Go on with a run that stopped, from where it stopped."""
    settings = settings_of(folder, name)
    if settings is not None and not is_running(folder, name):
        _begin(folder, name, ["run", str(settings), "--out", str(settings.parent)])


def settings_of(folder: Path, name: str) -> Path | None:
    """The settings a run can go on with: its own once it has begun, else those of the form."""
    path = inside(folder, name)
    found = [path / file for file in ("run.toml", SETTINGS) if (path / file).exists()] if path else []
    return found[0] if found else None


def label_now(folder: Path, name: str, latents: int, budget: int) -> None:
    """Label the most severe changed latents of a run with the server that the environment names."""
    if inside(folder, name) is not None and not is_running(folder, name):
        limits = [f"labels.llm_max_latents={int(latents)}", f"labels.llm_max_tokens={int(budget)}"]
        _begin(
            folder,
            name,
            ["label", str(folder / name), *(part for each in limits for part in ("--set", each))],
        )


def waiting(folder: Path) -> list[str]:
    """Runs that wait their turn, the next first. Where their process is gone (a restarted machine), start it."""
    queue = RunQueue(folder)
    turns = queue.turns()
    if turns and (process := queue.wake()) is not None:
        _REAPED.append(process)
    return [turn.name for turn in turns]


def withdraw(folder: Path, name: str) -> None:
    """Take a run out of the queue."""
    RunQueue(folder).remove(name)


def _begin(folder: Path, name: str, arguments: list[str]) -> None:
    queue = RunQueue(folder)
    if queue.turns() or anything_runs(folder):
        queue.add(name, arguments)
        waiting(folder)
    else:
        _REAPED.append(launch(folder, name, arguments))


# Finished children are waited for when the next one is looked at, or they would stay as zombies.
_REAPED: list[subprocess.Popen[bytes]] = []


def is_running(folder: Path, name: str) -> bool:
    """Is the process that writes this run alive?"""
    for process in list(_REAPED):
        if process.poll() is not None:
            _REAPED.remove(process)
    return _process(folder, name) is not None


def cancel(folder: Path, name: str) -> None:
    """Ask the run's process to stop, as Ctrl-C does; it keeps what is done."""
    process = _process(folder, name)
    if process is not None:
        process.send_signal(signal.SIGINT)


def dismiss(folder: Path, name: str) -> None:
    """Stop showing a run that has stopped."""
    path = inside(folder, name)
    if path is not None:
        (path / LOG).unlink(missing_ok=True)


def under_way(folder: Path) -> list[Job]:
    """Runs with a live process, and those started from the page that stopped before their end."""
    jobs = []
    for path in sorted(folder.glob("*/progress.json")):
        status = read_progress(path.parent) or {}
        name, log = path.parent.name, path.parent / LOG
        running = status.get("state") == "running" and is_running(folder, name)
        if not running and (status.get("state") == "finished" or not log.exists()):
            continue
        state = "running" if running else str(status.get("state"))
        error = status.get("error")
        if not running and state == "running":
            state, error = "stopped", error or _tail(log) or "the process ended without a word"
        tasks = [_task(t) for t in status.get("tasks") or [] if isinstance(t, dict)]
        jobs.append(Job(name, state, tasks[-6:], error if state != "running" else None, _tail(log, 25)))
    return jobs


def state_text(folder: Path, entry: RunEntry) -> str:
    """What the list of runs says of a run."""
    if entry.state == "running":
        return "running" if is_running(folder, entry.name) else "stopped"
    if entry.state in ("finished", "refused") and entry.stages:  # refused: the run stayed as it was
        return "finished" if "effects" in entry.stages else f"up to {entry.stages[-1]}"
    return entry.state


def _process(folder: Path, name: str) -> psutil.Process | None:
    path = inside(folder, name)
    return process_of(path) if path else None


def settings_from(folder: Path, request: Request) -> dict[str, Any]:
    """The settings that a request stands for, nested."""

    def place(text: str) -> str:
        local = _local(folder, text)
        return str(local) if local else text.strip()

    values: dict[str, Any] = {
        "base": place(request.base),
        "tuned": place(request.tuned),
        "corpus": place(request.corpus),
    }
    if request.load.strip():
        values["load_crosscoder"] = place(request.load)
    harvest = {"layer": request.layer, "max_tokens": request.tokens}
    values["harvest"] = {key: int(value) for key, value in harvest.items() if value is not None}
    values["crosscoder"] = {"n_latents": request.latents, "k": request.k}
    return values


def _local(folder: Path, text: str) -> Path | None:
    path = inside(folder, text.strip()) if text.strip() else None
    return path if path is not None and path.exists() else None


def _allowed(folder: Path, text: str) -> bool:
    text = text.strip()
    if _local(folder, text):
        return True
    # A hub id, unless it is a path that exists elsewhere on this machine.
    return bool(_HUB.fullmatch(text)) and ".." not in text and not (Path.cwd() / text).exists()


def _task(entry: dict[str, Any]) -> TaskView:
    done, total, unit = entry.get("done") or 0, entry.get("total"), words.plain(entry.get("unit"), 20)
    share = min(1.0, max(0.0, done / total)) if total else (1.0 if entry.get("finished_at") else 0.0)
    text = f"{words.count(done)} of {words.count(total)} {unit}" if total else f"{words.count(done)} {unit}"
    return TaskView(str(entry.get("name", "")), share, text, str(entry.get("note") or ""))


def _tail(log: Path, lines: int = 3) -> str:
    """The log's last lines, each one neutralised."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 8000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(words.plain(line, 300) for line in text.splitlines()[-lines:])
