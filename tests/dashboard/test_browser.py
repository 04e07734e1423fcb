"""The dashboard in a real browser: gestures, links, keys."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from browsing import IN_CHROMIUM, go, settle

from dashboard.components.selection import read_ranges
from mneme.analyst import History
from mneme.store.queries import effects
from mneme.store.queries import latents as queries
from mneme.store.queries.latents import LatentFilter
from mneme.store.run import open_run

pytestmark = IN_CHROMIUM


def drag(page: Any, plot: int, across: tuple[float, float], up: tuple[float, float]) -> None:
    """A box on the n-th plot, in shares of its area."""
    area = page.locator(".js-plotly-plot").nth(plot).locator(".nsewdrag").bounding_box()
    x, y, wide, high = (area[k] for k in ("x", "y", "width", "height"))
    page.mouse.move(x + wide * across[0], y + high * up[0])
    page.mouse.down()
    for step in (0.5, 1.0):
        page.mouse.move(
            x + wide * (across[0] + step * (across[1] - across[0])),
            y + high * (up[0] + step * (up[1] - up[0])),
            steps=3,
        )
    page.mouse.up()


def drawn(page: Any) -> list[int]:
    """How many latents each plot of the page Latents shows: of the histogram all bars, of the others the points."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot._fullData
            .filter(t => t.type !== 'heatmap')
            .reduce((n, t) => n + (t.type === 'bar' ? Array.from(t.y).reduce((a, y) => a + (y || 0), 0)
                                                    : t.x.length), 0))"""
    )


@pytest.mark.parametrize(
    ("plot", "axes", "across", "up"),
    [
        (0, ["delta_norm"], (0.6, 0.99), (0.5, 0.6)),
        (1, ["beta_base", "beta_tuned"], (0.05, 0.6), (0.05, 0.95)),
        (2, ["umap_x", "umap_y"], (0.05, 0.6), (0.05, 0.95)),
    ],
)
def test_a_box_on_any_plot_filters_all_and_is_in_the_link(
    server: str, page: Any, runs: Path, plot: int, axes: list[str], across: Any, up: Any
) -> None:
    go(page, f"{server}/latents?run=whole")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .nsewdrag').length === 3")
    drag(page, plot, across, up)
    page.wait_for_url("**range=**", timeout=15_000)
    settle(page)
    link = page.url
    ranges = read_ranges(parse_qs(urlsplit(link).query)["range"][0])
    assert list(ranges) == axes
    rows = queries.table(open_run(runs / "whole"), LatentFilter(boxes=ranges))
    assert 0 < len(rows) < 150
    page.get_by_text(f"{len(rows)} latents", exact=True).wait_for(timeout=15_000)
    alive = int(rows["delta_norm"].notna().sum())
    page.wait_for_function("n => document.querySelectorAll('.js-plotly-plot').length === 3", arg=0)
    settle(page)
    assert drawn(page) == [alive, alive, alive]
    go(page, link)
    page.get_by_text(f"{len(rows)} latents", exact=True).wait_for(timeout=15_000)
    page.get_by_role("button", name="delta norm" if plot == 0 else "to").first.wait_for()


@pytest.mark.parametrize(("plot", "axes"), [(0, ["delta_norm"]), (1, ["beta_base", "beta_tuned"])])
def test_a_box_on_the_overview_lists_its_latents(
    server: str, page: Any, runs: Path, plot: int, axes: list[str]
) -> None:
    go(page, f"{server}/?run=whole")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .nsewdrag').length === 3")
    if plot:  # where a click opens a latent, a box is one of the plot's tools
        page.locator(".js-plotly-plot").nth(plot).hover()
        page.locator(".js-plotly-plot").nth(plot).locator("[data-title='Box Select']").click()
    drag(page, plot, (0.55, 0.97), (0.1, 0.7))
    page.wait_for_url("**/latents?**range=**", timeout=15_000)
    ranges = read_ranges(parse_qs(urlsplit(page.url).query)["range"][0])
    assert list(ranges) == axes
    found = queries.count(open_run(runs / "whole"), LatentFilter(boxes=ranges))
    page.get_by_text(f"{found} latents", exact=True).wait_for(timeout=15_000)
    settle(page)


def click_point(page: Any, plot: int, trace: str, point: int) -> Any:
    """Click a point of a plot; its custom data. trace: which one, in JavaScript's words for an array's element."""
    page.wait_for_function("n => document.querySelectorAll('.js-plotly-plot .nsewdrag').length > n", arg=plot)
    page.locator(".js-plotly-plot").nth(plot).scroll_into_view_if_needed()
    x, y, data = page.evaluate(
        """([plot, choose, point]) => {
            const host = document.querySelectorAll('.js-plotly-plot')[plot], layout = host._fullLayout
            const trace = eval('(traces => traces' + choose + ')')(host._fullData), at = host.getBoundingClientRect()
            const [across, up] = [layout.xaxis, layout.yaxis].map(
                (axis, i) => axis._offset + axis.d2p((i ? trace.y : trace.x)[point]))
            return [at.x + across, at.y + up, trace.customdata[point]]
        }""",
        [plot, trace, point],
    )
    page.mouse.move(x - 3, y)
    page.mouse.move(x - 1, y, steps=4)  # a pixel inside a bar's end
    page.locator(".js-plotly-plot").nth(plot).locator(".hoverlayer .hovertext").first.wait_for()
    page.mouse.click(x - 1, y)
    return data


def test_a_point_of_the_overview_opens_its_latent(server: str, page: Any, runs: Path) -> None:
    go(page, f"{server}/?run=whole")
    latent = click_point(page, 1, ".at(-1)", 2)  # an amplified one that lies alone
    page.wait_for_url(f"**/latent?**latent={latent}**", timeout=15_000)
    page.locator("h1", has_text=f"Latent {latent}").wait_for()
    assert open_run(runs / "whole").rows("SELECT verdict FROM latents WHERE latent = ?", [latent]) == [
        ("amplified",)
    ]
    settle(page)


def test_back_goes_through_what_was_done(server: str, page: Any, runs: Path) -> None:
    go(page, f"{server}/?run=whole")
    page.get_by_role("link", name="Latents", exact=False).first.click()
    page.wait_for_url("**/latents?**")
    settle(page)
    views = [page.url]
    for verdict in ("amplified", "suppressed"):
        page.get_by_role("button", name=verdict, exact=True).click()
        page.wait_for_url(f"**verdict={verdict}**")
        settle(page)
        views.append(page.url)
    table = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    page.mouse.click(table["x"] + 18, table["y"] + 50)
    page.wait_for_url("**/latent?**latent=**verdict=suppressed**")
    settle(page)
    for view in reversed(views):
        page.go_back()
        page.wait_for_url(view)
        verdicts = tuple(parse_qs(urlsplit(view).query).get("verdict", []))
        count = queries.count(open_run(runs / "whole"), LatentFilter(verdicts=verdicts))
        page.get_by_text(f"{count} latents", exact=True).wait_for()
        settle(page)
        assert page.url == view
    page.go_back()
    page.locator("h1", has_text="What did the tuning change?").wait_for()


def test_both_themes_are_the_apps_own(server: str, browser: Any) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        tab = browser.new_context(viewport={"width": 1280, "height": 720}, color_scheme=scheme).new_page()
        go(tab, f"{server}/latents?run=whole")
        tab.wait_for_selector(".js-plotly-plot .xtick text")
        seen[scheme] = tab.evaluate(
            """() => [getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor,
                      getComputedStyle(document.querySelector('h1')).color,
                      getComputedStyle(document.querySelector('.js-plotly-plot .xtick text')).fill]"""
        )
        tab.context.close()
    assert seen["light"][0] == "rgb(251, 250, 248)" and seen["dark"][0] == "rgb(21, 25, 28)"

    def brightness(colour: str) -> float:
        return sum(float(part) for part in re.findall(r"[\d.]+", colour)[:3]) / 3

    for scheme, sign in (("light", -1), ("dark", 1)):
        ground, *texts = map(brightness, seen[scheme])
        assert all(sign * (text - ground) > 80 for text in texts), (scheme, seen[scheme])


@pytest.mark.parametrize("where", [18, 400], ids=["its tick", "its text"])
def test_a_row_opens_its_latent_and_keys_step_on(server: str, page: Any, where: int) -> None:
    go(page, f"{server}/latents?run=whole&verdict=amplified")
    table = page.locator("[data-testid=stDataFrame] canvas").first.bounding_box()
    page.mouse.click(table["x"] + where, table["y"] + 50)
    page.wait_for_url("**/latent?**", timeout=15_000)
    page.get_by_role("button", name="Next Shortcut J").wait_for(timeout=15_000)
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
    latent = click_point(page, 0, ".find(t => t.type.startsWith('scatter'))", 0)
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
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Note", exact=True).wait_for(state="detached", timeout=15_000)
    page.get_by_text("123 bun").wait_for()
    settle(page)
    page.wait_for_timeout(700)  # the buttons of the page as it is now
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("123 bun").wait_for(state="detached", timeout=15_000)
    settle(page)
    assert history.reviews() == {}


def test_a_bar_of_the_overview_opens_its_area(server: str, page: Any, runs: Path) -> None:
    go(page, f"{server}/?run=whole")
    row = click_point(page, 2, "[0]", 0)
    area = effects.effects(open_run(runs / "whole"))["category"].iloc[row]
    page.wait_for_url(f"**/side_effects?**area={area}**", timeout=15_000)
    page.locator("h1", has_text="Side effects").wait_for()
    settle(page)


def test_reviewing_stays_in_sight_and_the_key_for_another_latent_shows_its_heading(
    server: str, page: Any, runs: Path
) -> None:
    first, second = queries.table(open_run(runs / "whole"), LatentFilter())["latent"][:2].tolist()
    page.set_viewport_size({"width": 1280, "height": 640})
    go(page, f"{server}/latent?run=whole&latent={first}")
    page.get_by_role("button", name="Notes").wait_for(timeout=30_000)
    settle(page)
    page.wait_for_timeout(700)  # the keys work a moment after their buttons are drawn
    main = page.get_by_test_id("stMain")
    main.evaluate("e => e.scrollTo(0, 500)")
    accept = page.get_by_role("button", name="Accept")
    box = accept.bounding_box()
    assert box and 0 <= box["y"] < 200
    covered = (
        "e => !e.contains(document.elementFromPoint(...(b => [b.x + 5, b.y + 5])(e.getBoundingClientRect())))"
    )
    assert not accept.evaluate(covered)
    page.keyboard.press("j")
    page.wait_for_function(f"location.search.includes('latent={second}')")
    settle(page)
    heading = page.locator("h1", has_text=f"Latent {second}")
    heading.wait_for()
    place = heading.bounding_box()
    assert place and 0 <= place["y"] < 200 and not heading.evaluate(covered)
