"""Where the index of a run lies."""

from __future__ import annotations

from pathlib import Path

from mneme.store.run import Run


def folder(run: Run) -> Path:
    """Where the index of a run lies."""
    return run.path / "search"
