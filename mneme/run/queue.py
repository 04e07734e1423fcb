"""Runs that wait their turn, as files; and the process that starts them one after the other.

    RUNS/.queue/STAMP-NAME.json     {"name", "arguments"}: `mneme ARGUMENTS`, in order of STAMP
    RUNS/.queue/lock                held by the one process that works the queue off

Nothing is held in the dashboard's process: a reload or a restarted server loses no turn, and where a machine was
restarted the page starts the queue again. `python -m mneme.run.queue RUNS` works it off and ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from mneme._util.files import lock_file, write_text
from mneme._util.processes import living
from mneme.store.queries.runs import read_progress

_log = logging.getLogger(__name__)

LOG = "dashboard.log"
_PAUSE_S = 0.5


class Turn(NamedTuple):
    """A run that waits."""

    file: Path
    name: str
    """The run's folder inside the folder of runs."""
    arguments: tuple[str, ...]
    """Of the command `mneme`."""


class RunQueue:
    """The queue of one folder of runs."""

    def __init__(self, runs: str | Path) -> None:
        self.runs = Path(runs)
        self.folder = self.runs / ".queue"

    def turns(self) -> list[Turn]:
        """Who waits, first come first; files that can't be read are left out."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            try:
                body = json.loads(file.read_text(encoding="utf-8"))
                found.append(Turn(file, str(body["name"]), tuple(map(str, body["arguments"]))))
            except FileNotFoundError:  # its turn has come
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.debug("%s is no turn that can be read: %s", file, error)
        return found

    def add(self, name: str, arguments: list[str]) -> None:
        """Wait for a turn; a run waits once."""
        if name not in {turn.name for turn in self.turns()}:
            body = json.dumps({"name": name, "arguments": arguments})
            write_text(self.folder / f"{time.time_ns():020d}-{name}.json", body)

    def remove(self, name: str) -> None:
        """Wait no longer."""
        for turn in self.turns():
            if turn.name == name:
                turn.file.unlink(missing_ok=True)

    def wake(self) -> subprocess.Popen[bytes] | None:
        """Start the process that works the queue off, unless it is at it or nobody waits."""
        if not self.turns():
            return None
        with self._lock() as mine:
            if not mine:
                return None
        return subprocess.Popen(
            [sys.executable, "-m", "mneme.run.queue", str(self.runs)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def work(self) -> None:
        """Start whoever waits, one at a time, until nobody does. Returns at once where another process does it."""
        with self._lock() as mine:
            while mine and (turns := self.turns()):
                if anything_runs(self.runs):
                    time.sleep(_PAUSE_S)
                    continue
                turn = turns[0]
                process = launch(self.runs, turn.name, list(turn.arguments))
                turn.file.unlink(missing_ok=True)
                process.wait()

    def _lock(self) -> contextlib.AbstractContextManager[bool]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return lock_file(self.folder / "lock")


def launch(runs: Path, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start `mneme ARGUMENTS` for the run `name`, in a session of its own; what it says goes to its log."""
    target = runs / name
    with (target / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mneme", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=runs,
            start_new_session=True,
            # A server started in the background ignores Ctrl-C, and its children would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    status = {"state": "running", "pid": process.pid, "error": None, "updated_at": time.time(), "tasks": []}
    write_text(target / "progress.json", json.dumps(status))
    return process


def process_of(run: Path) -> psutil.Process | None:
    """The living process that writes a run, by its progress.json; None for one of another program."""
    status = read_progress(run) or {}
    pid = status.get("pid")
    return None if status.get("state") != "running" or pid == os.getpid() else living(pid, "mneme")


def anything_runs(runs: Path) -> bool:
    """Whether any run of the folder is being made."""
    return any(process_of(path.parent) is not None for path in runs.glob("*/progress.json"))


if __name__ == "__main__":
    RunQueue(sys.argv[1]).work()
