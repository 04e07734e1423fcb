"""Progress where a person looks on: bars by tqdm, which draws them as a notebook or a terminal can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mneme._util.progress import NULL_PROGRESS, Progress, Task


class TqdmProgress:
    """A bar a task; what a task without a length notes is written as a line."""

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        from tqdm.auto import tqdm

        with tqdm(total=total, desc=name, unit=f" {unit}" if unit else "it", leave=total is not None) as bar:
            yield _TqdmTask(bar, name, total)
            if total is not None:
                bar.update(total - bar.n)


class _TqdmTask:
    def __init__(self, bar: Any, name: str, total: float | None) -> None:
        self._bar, self._name, self._total = bar, name, total

    def advance(self, amount: float = 1) -> None:
        self._bar.update(amount)

    def note(self, text: str) -> None:
        if self._total is None:
            self._bar.write(f"{self._name}: {text}")
        else:
            self._bar.set_postfix_str(text)


def shown(progress: Progress | bool | None) -> Progress:
    """The progress to use. None: bars in a notebook or a terminal, else nothing; True and False: bars, nothing."""
    if progress is None:
        progress = in_notebook() or bool(sys.stderr and sys.stderr.isatty())
    if isinstance(progress, bool):
        return TqdmProgress() if progress else NULL_PROGRESS
    return progress


def in_notebook() -> bool:
    """Whether this is IPython's: Jupyter, Colab, VS Code or its own prompt."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None
