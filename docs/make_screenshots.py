"""The pictures of the README: start the dashboard on a finished run, open its pages, save PNGs.

python docs/make_screenshots.py [runs/demo]         (what `make screenshots` does)
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "dashboard"))

from browsing import CHROMIUM, FLAGS  # noqa: E402

IMAGES = ROOT / "docs" / "images"
LIMIT = 400_000  # bytes a picture
# file -> page, theme, height
SHOTS = {
    "overview": ("", "light", 900),
    "overview-dark": ("", "dark", 900),
    "latents": ("latents", "light", 900),
    "latent": ("latent", "light", 1000),
    "map": ("map", "dark", 820),
    "try-text": ("try_text", "light", 900),
    "compare": ("compare", "light", 1000),
    "review": ("review", "light", 720),
    "side-effects": ("side_effects", "light", 1000),
    "health": ("health", "light", 820),
    "runs": ("runs", "light", 820),
    "report": ("report", "light", 900),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, default=ROOT / "runs" / "demo")
    run = parser.parse_args().run.resolve()
    if not (run / "run.duckdb").exists():
        sys.stderr.write(f"{run} is not a run: make it with `mneme demo --no-serve`\n")
        return 2
    if CHROMIUM is None:
        sys.stderr.write("Chromium is missing: install the package chromium\n")
        return 2
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(ROOT / "dashboard" / "app.py"),
            f"--server.port={port}",
        ],
        env={**os.environ, "MNEME_RUNS": str(run.parent), "MNEME_RUN": run.name},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        text = read_a_text(run)
        wait_until_up(f"http://127.0.0.1:{port}/_stcore/health")
        take(CHROMIUM, f"http://127.0.0.1:{port}", run.name, {"try_text": f"&probe={text}"})
    finally:
        server.terminate()
        server.wait()
    return 0


def wait_until_up(address: str) -> None:
    for _ in range(150):
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def read_a_text(run: Path) -> str:
    """Have a worker read an example for the page Try text; its number."""
    sys.path.insert(0, str(ROOT))
    from mneme.probe.job_files import JobFiles

    board = JobFiles(run)
    key = board.ask(
        "The cell membrane controls which molecules enter. A virus binds to receptors on its surface."
    )
    if board.answer(key) is None:
        board.start_worker()
    for _ in range(600):
        if board.answer(key) is not None:
            break
        time.sleep(0.5)
    return key


def take(chromium: str, address: str, run: str, more: dict[str, str]) -> None:
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, (page_name, theme, height) in SHOTS.items():
            context = browser.new_context(viewport={"width": 1280, "height": height}, color_scheme=theme)
            page = context.new_page()
            page.goto(
                f"{address}/{page_name}?run={run}{more.get(page_name, '')}",
                timeout=120_000,
                wait_until="domcontentloaded",
            )
            page.wait_for_selector("h1", timeout=60_000)
            page.wait_for_function(
                "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
                timeout=60_000,
            )
            no_skeleton = "!document.querySelector('[data-testid=stSkeleton]')"
            page.wait_for_function(no_skeleton, timeout=60_000)
            page.wait_for_timeout(2500)  # fonts and WebGL
            file = IMAGES / f"{name}.png"
            page.screenshot(path=str(file))
            context.close()
            size = file.stat().st_size
            sys.stdout.write(f"{file.relative_to(ROOT)}  {size / 1000:.0f} kB\n")
            if size > LIMIT:
                raise ValueError(f"{file} is larger than {LIMIT / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    raise SystemExit(main())
