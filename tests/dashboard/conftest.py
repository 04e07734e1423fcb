"""Small made-up runs, and the app with its runs folder set."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mneme.compare.cache import CompareFile
from mneme.store.synthetic import make_synthetic_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: whole, hostile, half-finished, damaged."""
    folder = tmp_path_factory.mktemp("runs")
    make_synthetic_run(folder / "whole", latents=150, contexts=12, window=16)
    make_synthetic_run(folder / "hostile", latents=60, contexts=8, window=12, hostile=True)
    make_synthetic_run(folder / "half", latents=20, stages=("harvest", "crosscoder"))
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.duckdb").write_bytes(b"not a database" * 400)
    return folder


@pytest.fixture(autouse=True)
def _no_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page Compare starts no process of its own here."""
    monkeypatch.setattr(CompareFile, "start", lambda self: self.say(pid=os.getpid(), since=time.time()))
