"""Progress a person sees: bars in a terminal, and a small file that the dashboard polls."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mneme._util.errors import UserError
from mneme._util.files import write_text
from mneme._util.progress import Progress as ProgressProtocol
from mneme._util.progress import Task


class RichProgress:
    """Bars in a terminal; plain lines where there is none (a log, CI)."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", style="dim"),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/]"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )
        self._open = 0

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        if self._open == 0:
            self._bars.start()
        self._open += 1
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"{name} ...", highlight=False)
        identity = self._bars.add_task(name, total=total, unit=unit, note="")
        try:
            yield _RichTask(self._bars, identity, None if total is not None else name)
            if total is not None:
                self._bars.update(identity, completed=total)
            if not self.console.is_terminal:
                self.console.print(f"{name}: {time.monotonic() - started:.1f} s", highlight=False)
        finally:
            self._open -= 1
            if self._open == 0:
                self._bars.stop()


class _RichTask:
    """One bar; what a task without a length notes stays as a line of its own."""

    def __init__(self, bars: Progress, identity: Any, line: str | None) -> None:
        self._bars, self._identity, self._line = bars, identity, line

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._identity, amount)

    def note(self, text: str) -> None:
        if self._line is not None:
            self._bars.console.print(f"{self._line}: {text}", markup=False, highlight=False, soft_wrap=True)
        else:
            self._bars.update(self._identity, note=text)


class FileProgress:
    """Where a running pipeline stands, as `progress.json` in the run's folder.

    {"state": "running" | "finished" | "failed" | "cancelled", "pid": ..., "error": ...,
     "updated_at": unix seconds,
     "tasks": [{"name", "total", "done", "unit", "note", "started_at", "finished_at"}, ...]}
    """

    def __init__(self, file: Path, *, interval_s: float = 0.5) -> None:
        self.file, self._interval, self._written = file, interval_s, 0.0
        self._status: dict[str, Any] = {"state": "running", "pid": os.getpid(), "error": None, "tasks": []}

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        entry: dict[str, Any] = {
            "name": name,
            "total": total,
            "done": 0,
            "unit": unit,
            "note": "",
            "started_at": time.time(),
            "finished_at": None,
        }
        self._status["tasks"].append(entry)
        self.write(force=True)
        yield _FileTask(self, entry)
        if total is not None:
            entry["done"] = total
        entry["finished_at"] = time.time()
        self.write(force=True)

    def end(self, state: str, error: str | None = None) -> None:
        """The last word: finished, failed or cancelled."""
        self._status.update(state=state, error=error)
        self.write(force=True)

    def tell(self, **facts: Any) -> None:
        """Further facts beside the tasks."""
        self._status.update(facts)
        self.write(force=True)

    def write(self, *, force: bool = False) -> None:
        """Write the file, at most every `interval_s` seconds."""
        now = time.monotonic()
        if not force and now - self._written < self._interval:
            return
        self._written = now
        self._status["updated_at"] = time.time()
        # A full disk must be reported by the stage that needs the space, not by its progress bar.
        with suppress(OSError, UserError):
            write_text(self.file, json.dumps(self._status))


class _FileTask:
    def __init__(self, owner: FileProgress, entry: dict[str, Any]) -> None:
        self._owner, self._entry = owner, entry

    def advance(self, amount: float = 1) -> None:
        self._entry["done"] += amount
        self._owner.write()

    def note(self, text: str) -> None:
        self._entry["note"] = text
        self._owner.write()


class BothProgress:
    """Every task goes to each of several progresses."""

    def __init__(self, *parts: ProgressProtocol) -> None:
        self._parts = parts

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        with ExitStack() as stack:
            yield _BothTask([stack.enter_context(part.task(name, total, unit)) for part in self._parts])


class _BothTask:
    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = tasks

    def advance(self, amount: float = 1) -> None:
        for task in self._tasks:
            task.advance(amount)

    def note(self, text: str) -> None:
        for task in self._tasks:
            task.note(text)
