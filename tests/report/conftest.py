"""Small runs to report on."""

from __future__ import annotations

from pathlib import Path

import pytest

from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run with ordinary texts; tests only read it."""
    return make_synthetic_run(tmp_path_factory.mktemp("plain") / "run", latents=120, contexts=6, documents=40)


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose every text attacks the reader; tests only read it."""
    folder: Path = tmp_path_factory.mktemp("hostile") / "run"
    return make_synthetic_run(folder, latents=120, contexts=6, documents=40, hostile=True)
