"""A run started from the page is a process of its own, followed and ended through the run's files."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from dashboard.components import jobs
from dashboard.components.forecast import expected
from mneme.config import make_config
from mneme.run.queue import RunQueue
from mneme.store.queries.runs import Measured
from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"


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


@contextlib.contextmanager
def a_run_that_goes_on(run: Path) -> Iterator[None]:
    """A living process that a run's progress.json names, until the block ends."""
    run.mkdir()
    command = [sys.executable, "-c", "input('mneme')"]  # a command line that is taken for ours
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        status = {"state": "running", "pid": process.pid, "tasks": []}
        (run / "progress.json").write_text(json.dumps(status))
        yield
        process.communicate(b"\n")


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


def test_a_layer_that_cannot_show_the_change_is_refused_on_the_page_as_on_the_command_line(
    tmp_path: Path,
) -> None:
    save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    save(changed_in_layer(tiny_llama(), 2), tmp_path / "tuned", tiny_tokenizer())
    (tmp_path / "text.txt").write_text("a river and a king and a cat on a mat. " * 60)
    request = jobs.Request("early", "base", "tuned", "text.txt", 1, 64, 8, None, "")
    assert jobs.problem_with(tmp_path, request) is None
    jobs.start(tmp_path, request)
    wait_for_end(tmp_path, "early")
    (job,) = jobs.under_way(tmp_path)
    assert job.state == "failed" and not (tmp_path / "early" / "activations").exists()
    assert "layer 1 can't show the change" in (job.error or "") and "--layer 2 to 3" in (job.error or "")


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


def test_a_second_run_waits_its_turn_survives_a_restart_and_is_started(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    second = jobs.Request("second", "empty", "bundled:tuned", "bundled", None, 64, 8, None, "")
    queue = RunQueue(tmp_path)
    with a_run_that_goes_on(tmp_path / "first"):
        jobs.start(tmp_path, second)
        assert jobs.waiting(tmp_path) == ["second"]
        assert "waits" in (jobs.problem_with(tmp_path, second) or "")
        jobs.start(tmp_path, second._replace(name="third"))
        jobs.withdraw(tmp_path, "third")
    # The process that works the queue off is one of its own: it starts the second when the first has ended.
    deadline = time.monotonic() + 120
    while queue.turns() or jobs.is_running(tmp_path, "second"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    failed = {job.name: job.state for job in jobs.under_way(tmp_path)}
    assert failed == {"second": "failed"}, "the model folder is empty"


def test_a_queue_left_behind_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    queue = RunQueue(tmp_path)
    queue.add("one", ["run", "a"])
    queue.add("one", ["run", "a"])
    queue.add("two", ["run", "b"])
    (queue.folder / "0-broken.json").write_text("{")
    monkeypatch.setattr(RunQueue, "wake", lambda self: started.append("woken"))
    assert jobs.waiting(tmp_path) == ["one", "two"] and started == ["woken"]


def test_a_stopped_run_goes_on_with_its_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(jobs, "_begin", lambda folder, name, arguments: begun.append(arguments))
    run = tmp_path / "run"
    run.mkdir()
    jobs.resume(tmp_path, "run")
    assert not begun, "there is nothing to go on with"
    (run / jobs.SETTINGS).write_text("")
    jobs.resume(tmp_path, "run")
    (run / "run.toml").write_text("")
    jobs.resume(tmp_path, "run")
    jobs.resume(tmp_path, "../elsewhere")
    assert begun == [["run", str(run / f), "--out", str(run)] for f in (jobs.SETTINGS, "run.toml")]


def test_time_and_disk_grow_with_tokens_and_latents() -> None:
    took = {"harvest": 100.0, "crosscoder": 60.0, "attribution": 20.0, "report": 1.0}
    like = Measured("demo", "b", "t", 1000, 64, 576, took)
    assert expected(like, 1000, 64, 8)[0] == 181.0
    assert expected(like, 2000, 128, 8)[0] == 2 * 101 + 4 * 80
    disk = expected(like, 1000, 64, 8)[1]
    assert disk > 1000 * 2 * 2 * 576, "at least both streams in bfloat16"


def test_a_finished_run_is_replaced_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(jobs, "_begin", lambda folder, name, arguments: begun.append(arguments))
    make_synthetic_run(tmp_path / "mine", latents=20)
    request = jobs.Request("mine", "a/base", "a/tuned", "bundled", 3, 4096, 32, None, "")
    config = make_config(
        {
            "base": "a/base",
            "tuned": "a/tuned",
            "harvest": {"layer": 3},
            "crosscoder": {"n_latents": 4096, "k": 32},
        }
    )
    (tmp_path / "mine" / "run.toml").write_text(config.to_toml())
    assert jobs.would_replace(tmp_path, request) == []
    assert jobs.would_replace(tmp_path, request._replace(name="another")) == []
    other = request._replace(k=16, tuned="a/other")
    rows = jobs.would_replace(tmp_path, other)
    assert rows == [("tuned", "a/tuned", "a/other"), ("crosscoder.k", "32", "16")]
    jobs.start(tmp_path, request)
    jobs.start(tmp_path, other, replace=True)
    assert [arguments[-1] for arguments in begun] == [str(tmp_path / "mine"), "--replace"]
    with Run(tmp_path / "mine").stage_writer() as writer:  # only what depends on other settings counts
        writer.connection.execute("DELETE FROM stages WHERE stage <> 'harvest'")
    assert jobs.would_replace(tmp_path, request._replace(k=16)) == []


def test_the_page_shows_what_differs_and_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(jobs, "_begin", lambda folder, name, arguments: begun.append(arguments))
    make_synthetic_run(tmp_path / "mine", latents=20)
    config = make_config(
        {"base": "bundled:base", "tuned": "bundled:tuned", "crosscoder": {"n_latents": 4096, "k": 16}}
    )
    (tmp_path / "mine" / "run.toml").write_text(config.to_toml())
    monkeypatch.setenv("MNEME_RUNS", str(tmp_path))
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    app.switch_page("app_pages/runs.py").run()
    app.text_input(key="new_name").set_value("mine")

    def press_start() -> None:
        next(button for button in app.button if button.label == "Start").click().run()
        assert not app.exception, app.exception[0].value

    press_start()
    assert not begun and any("mine has finished" in box.value for box in app.warning)
    table = next(t.value for t in app.dataframe if list(t.value.columns) == ["setting", "there", "now"])
    assert table.to_numpy().tolist() == [["crosscoder.k", "16", "32"]]
    app.checkbox(key="new_replace").check()
    app.text_input(key="new_name").set_value("another")
    press_start()
    assert len(begun) == 1 and "--replace" not in begun[0], "it was another run that may be replaced"
    app.text_input(key="new_name").set_value("mine")
    press_start()
    app.checkbox(key="new_replace").check()
    press_start()
    assert begun[1][-1] == "--replace" and not any(box.key == "new_replace" for box in app.checkbox)
