"""How long work tells people where it stands.

A stage gets a `Progress` and opens a task in it:

    with progress.task("harvest", total=n_tokens, unit="tokens") as task:
        for batch in batches:
            ...
            task.advance(batch_tokens)

`NullProgress` (the default everywhere) says nothing; `RichProgress` in `mneme._util.console` draws bars and
`FileProgress` keeps a small JSON file that the dashboard polls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, amount: float = 1) -> None:
        """`amount` more of the task's unit is done."""

    def note(self, text: str) -> None:
        """A few words beside the bar, e.g. the loss."""


class Progress(Protocol):
    """Where bars are drawn."""

    def task(self, name: str, total: float | None, unit: str = "") -> AbstractContextManager[Task]:
        """Open a bar; `total` None means the length is not known."""


class _NullTask:
    def advance(self, amount: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class NullProgress:
    """Says nothing."""

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        yield _NullTask()


NULL_PROGRESS = NullProgress()
