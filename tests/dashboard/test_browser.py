"""The dashboard in a real browser: gestures, links, keys."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from browsing import IN_CHROMIUM, go, settle

from mneme.analyst import History

pytestmark = IN_CHROMIUM


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
