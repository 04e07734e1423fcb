"""The dashboard in headless Chromium: what tests of it share."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",
]
PAGES = [
    *[
        "",
        "side_effects",
        "latents",
        "latent",
        "map",
        "review",
        "try_text",
        "compare",
        "evidence",
        "health",
        "report",
    ],
    "runs",
]
IN_CHROMIUM = [
    pytest.mark.browser,
    # Playwright's own transports are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("MNEME_REQUIRE_CHROMIUM"), reason="Chromium is not installed"
    ),
]
KEY = "sk-canary-5f0c1d"
"""The labelling server's key in the environment of the server under test; to be found nowhere else."""


def wait_until_served(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once a server that `process` starts answers; fail with its log where it ends or takes a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).close()
            return
        except OSError:  # URLError and time-outs too
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


class Server(NamedTuple):
    """The app on a free port, started as `mneme dashboard` starts it."""

    address: str
    runs: Path
    log: Path


def settle(page: Any) -> None:
    """Wait until the script has run and plots are drawn."""
    page.wait_for_timeout(150)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=30_000,
    )
    page.wait_for_timeout(200)


def go(page: Any, address: str) -> None:
    """Open an address and wait until it is drawn."""
    page.goto(address)
    page.wait_for_selector("h1", timeout=30_000)
    settle(page)
