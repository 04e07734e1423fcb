"""Small made-up runs, the app with its runs folder set, and a server of it with tabs of a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, FLAGS, KEY, Server, wait_until_served

from mneme.compare.cache import CompareFile
from mneme.testing.synthetic import make_synthetic_run

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"


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


@pytest.fixture(scope="session")
def serving(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The dashboard of `runs`, with a key in its environment."""
    log = tmp_path_factory.mktemp("server") / "log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}"],
            env={**os.environ, "MNEME_RUNS": str(runs), "OPENAI_API_KEY": KEY},
            cwd=APP.parent.parent,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until_served(address, process, log)
            yield Server(address, runs, log)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def server(serving: Server) -> str:
    """Its address."""
    return serving.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab of 1280x720 that remembers what it asked other hosts for, and what was said by dialogs."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    tab = context.new_page()
    tab.elsewhere, tab.dialogs = [], []

    def asked(request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:", "blob:")) or ":9/" in request.url:
            tab.elsewhere.append(request.url)

    def said(dialog: Any) -> None:
        tab.dialogs.append(dialog.message)
        dialog.dismiss()

    context.on("request", asked)
    tab.on("dialog", said)
    yield tab
    context.close()
