"""What every test gets: no network, no touching of the user's home, one torch thread."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import hypothesis
import pytest

# Before torch comes: its workers would only wait for each other's cores; commands that tests start do as they do.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# The converted bundled model is kept between test runs (26 s to make); nothing else is shared with the user.
os.environ.setdefault("MNEME_CACHE", str(Path.home() / ".cache" / "mneme"))
# Triton's kernels are tested by its interpreter where there is no GPU; it reads this when it is first imported.
_HAS_GPU = any(Path("/dev").glob("nvidia[0-9]*")) and not version("torch").endswith("+cpu")
os.environ.setdefault("TRITON_INTERPRET", "0" if _HAS_GPU else "1")
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
    os.environ.pop(name, None)

# The same examples in every run, and no more than these; `pytest --hypothesis-profile=default` looks for others.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, max_examples=100, deadline=None, database=None
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and settings written by accident land in a temporary folder."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that brings Python code of its own; the code that is run is copied below tmp_path; nothing may ask."""
    from tiny_models import save_with_own_code

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    return save_with_own_code(tmp_path / "own-code")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small matrices are faster with one thread, and sums are the same in every run; a test may have set more."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
