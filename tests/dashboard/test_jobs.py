"""A run started from the page is a process of its own, followed and ended through the run's files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.components import jobs


@pytest.fixture(autouse=True)
def _reap() -> Iterator[None]:
    """Children that have ended are waited for, or Python warns of them."""
    yield
    while jobs._REAPED:
        jobs._REAPED.pop().wait(timeout=30)


def wait_for_end(folder: Path, name: str) -> None:
    for _ in range(1200):  # two minutes: the process imports torch, and the machine may be busy
        if not jobs.is_running(folder, name):
            return
        time.sleep(0.1)
    raise TimeoutError(name)


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    request = jobs.Request("bad", "empty", "bundled:tuned", "bundled", None, 64, 8, None, "")
    assert jobs.problem_with(tmp_path, request) is None
    jobs.start(tmp_path, request)
    assert "under way" in (jobs.problem_with(tmp_path, request) or "")
    wait_for_end(tmp_path, "bad")
    (job,) = jobs.under_way(tmp_path)
    assert job.state == "failed" and "no model" in (job.error or "")
    jobs.dismiss(tmp_path, "bad")
    assert jobs.under_way(tmp_path) == []


def test_cancelling_ends_the_process(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    jobs.start(tmp_path, jobs.Request("slow", "empty", "bundled:tuned", "bundled", None, 64, 8, None, ""))
    jobs.cancel(tmp_path, "slow")
    wait_for_end(tmp_path, "slow")
    (job,) = jobs.under_way(tmp_path)
    assert job.state in ("stopped", "cancelled") and not job.tasks


def test_a_process_of_another_program_gets_no_signal(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "progress.json").write_text('{"state": "running", "pid": 1, "tasks": []}')
    assert not jobs.is_running(tmp_path, "run")
    jobs.cancel(tmp_path, "run")
