"""`mneme evidence` behind the open dashboard: started once the page is up, ended with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_behind_the_page_and_ends_with_it(tmp_path: Path, ending: signal.Signals) -> None:
    run = tmp_path / "one"
    run.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("served_evidence.py")), str(tmp_path), str(port)],
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started, deadline = run / "started", time.monotonic() + 120
    while not (started.exists() and started.read_text().endswith(".")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    pid, niceness = map(int, started.read_text().rstrip(".").split())
    assert niceness == min(19, os.nice(0) + 15)
    children = psutil.Process(process.pid).children()
    assert pid in {child.pid for child in children} and len(children) == 2
    process.send_signal(ending)
    assert process.wait(60) == 0
    assert (run / "stopped").read_text() == "asked"
    assert not any(child.is_running() for child in children)


def test_the_demo_serves_in_a_process_that_holds_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mneme.cli import analyse

    called: list[list[str]] = []
    monkeypatch.setattr(analyse, "run_stages", lambda *_, **__: None)
    monkeypatch.setattr(analyse.os, "execv", lambda program, words: called.append(words[3:]))
    monkeypatch.setattr("mneme.models.bundled.bundled_base_file", lambda: tmp_path)
    analyse.demo(folder=tmp_path / "demo", port=8765, evidence=True, quick=False, serve=True)
    analyse.demo(folder=tmp_path / "demo", port=8765, evidence=False, quick=False, serve=True)
    served = ["dashboard", str(tmp_path / "demo"), "--port", "8765"]
    assert called == [[*served, "--evidence"], served]
