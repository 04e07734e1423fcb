"""The dashboard in a real browser: every page, hostile text, gestures, links, keys; and no word to the network."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mneme.analyst import History

APP = Path(__file__).resolve().parents[2] / "dashboard" / "serve.py"
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
    *["", "side_effects", "latents", "latent", "map", "review", "try_text", "compare", "health", "report"],
    "runs",
]

pytestmark = [
    pytest.mark.browser,
    # Playwright's own transports are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("MNEME_REQUIRE_CHROMIUM"), reason="Chromium is not installed"
    ),
]


@pytest.fixture(scope="module")
def server(runs: Path) -> Iterator[str]:
    """The app on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}"],
        env={**os.environ, "MNEME_RUNS": str(runs)},
        cwd=APP.parent.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(150):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield instance
        instance.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A tab of 1280x720 that remembers what it asked other hosts for."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    tab = context.new_page()
    tab.elsewhere = []
    tab.on(
        "request",
        lambda r: (
            None if r.url.startswith(("http://127.0.0.1", "data:", "blob:")) else tab.elsewhere.append(r.url)
        ),
    )
    yield tab
    context.close()


def settle(page: Any) -> None:
    """Wait until the script has run and plots are drawn."""
    page.wait_for_timeout(250)
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'",
        timeout=30_000,
    )
    page.wait_for_timeout(300)


def go(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("h1", timeout=30_000)
    settle(page)


def test_every_page_opens_and_hostile_text_does_nothing(server: str, page: Any) -> None:
    for name in PAGES:
        go(page, f"{server}/{name}?run=hostile")
        assert page.locator("[data-testid=stException]").count() == 0, name
        assert page.evaluate("window.hacked") is None, name
        assert page.locator('a[href^="javascript"], img[src*="pixel.png"], a[href*=":9/"]').count() == 0, name
        wide = "(e => e.scrollWidth - e.clientWidth)(document.querySelector('[data-testid=stMain]'))"
        assert page.evaluate(wide) <= 1, f"{name} is wider than the window"
    assert page.elsewhere == []


def test_a_box_filters_all_and_is_in_the_link(server: str, page: Any) -> None:
    go(page, f"{server}/latents?run=whole")
    page.wait_for_selector(".js-plotly-plot .nsewdrag")
    area = page.locator(".js-plotly-plot").first.locator(".nsewdrag").bounding_box()
    x, y = area["x"], area["y"] + area["height"] / 2
    page.mouse.move(x + area["width"] * 0.6, y)
    page.mouse.down()
    page.mouse.move(x + area["width"] * 0.8, y + 20, steps=4)
    page.mouse.move(x + area["width"] * 0.99, y + 40, steps=4)
    page.mouse.up()
    settle(page)
    page.wait_for_url("**range=delta_norm**", timeout=15_000)
    settle(page)
    main = page.locator("[data-testid=stMain]")
    main.get_by_text("150 latents").wait_for(state="detached", timeout=15_000)
    link = page.url
    go(page, link)
    page.get_by_role("button", name="delta norm").wait_for(timeout=15_000)


def test_a_row_opens_its_latent_and_keys_step_on(server: str, page: Any) -> None:
    go(page, f"{server}/latents?run=whole&verdict=amplified")
    table = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    page.mouse.click(table["x"] + 18, table["y"] + 50)
    page.wait_for_url("**/latent?**", timeout=15_000)
    page.get_by_role("button", name="Next").wait_for(timeout=15_000)
    settle(page)
    assert "latent=" in page.url and "verdict=amplified" in page.url
    page.wait_for_timeout(700)  # the keys work a moment after their buttons are drawn
    first = page.locator("h1").first.inner_text()
    other = "first => document.querySelector('h1').innerText !== first"
    page.keyboard.press("j")
    page.wait_for_function(other, arg=first, timeout=15_000)
    settle(page)
    page.keyboard.press("k")
    page.wait_for_function(other.replace("!==", "==="), arg=first, timeout=15_000)


def test_a_click_on_the_map_opens_the_latent(server: str, page: Any) -> None:
    go(page, f"{server}/map?run=whole&verdict=amplified")
    page.wait_for_selector(".js-plotly-plot .nsewdrag")
    x, y, latent = page.evaluate(
        """() => {
            const plot = document.querySelector('.js-plotly-plot'), layout = plot._fullLayout
            const trace = plot._fullData.find(t => t.type.startsWith('scatter')), at = plot.getBoundingClientRect()
            return [at.x + layout.xaxis._offset + layout.xaxis.l2p(trace.x[0]),
                    at.y + layout.yaxis._offset + layout.yaxis.l2p(trace.y[0]), trace.customdata[0]]
        }"""
    )
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(500)
    page.mouse.click(x, y)
    page.wait_for_url("**/latent?**", timeout=15_000)
    assert f"latent={latent}" in page.url


def test_keys_review_a_latent_and_go_on(server: str, page: Any, runs: Path) -> None:
    history = History(runs / "whole")
    go(page, f"{server}/latent?run=whole&latent=7")
    # The last of the panel: keys work from here.
    page.get_by_role("button", name="Notes").wait_for(timeout=30_000)
    settle(page)
    page.wait_for_timeout(700)
    for key, verdict in (("1", "accept"), ("2", "reject"), ("3", "needs-work"), ("u", "reject"), ("4", "")):
        page.keyboard.press(key)
        deadline = time.monotonic() + 15
        while getattr(history.reviews().get(7), "verdict", "") != verdict:
            assert time.monotonic() < deadline, f"{key} gave {history.reviews().get(7)}"
            page.wait_for_timeout(50)
        settle(page)
        page.wait_for_timeout(700)  # the keys of the page as it is now
    assert history.reviews() == {}
    page.keyboard.press("n")
    page.wait_for_function("document.querySelector('h1').innerText !== 'Latent 7'", timeout=15_000)
    settle(page)
    page.get_by_role("button", name="Notes").click()
    page.get_by_label("Note", exact=True).fill("")
    page.get_by_label("Note", exact=True).press_sequentially("123 bun")
    settle(page)
    assert history.reviews() == {}, "keys typed into a note review nothing"
