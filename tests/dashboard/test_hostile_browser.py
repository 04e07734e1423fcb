"""Hostile text through every page, export and review in a real browser: nothing runs, nothing breaks, no key shows."""

from __future__ import annotations

import csv
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from browsing import IN_CHROMIUM, KEY, PAGES, Server, go, settle
from test_own_text import answer

from mneme.analyst import History
from mneme.probe.job_files import JobFiles
from mneme.report import write_report
from mneme.store.run import Run
from mneme.testing.synthetic import HOSTILE

pytestmark = IN_CHROMIUM
NAME = "<img src=x onerror=window.hacked=1>"
"""Of a run's folder, too."""


@pytest.fixture(scope="module")
def hostile(serving: Server) -> Any:
    """The hostile run under a hostile name, reviewed in hostile words, with a hostile text read."""
    folder = serving.runs / NAME
    shutil.copytree(serving.runs / "hostile", folder)
    history = History(folder)
    for latent, text in enumerate(HOSTILE):
        history.add(
            latent, HOSTILE[0][:40], verdict="reject", note=text[:2000], tags=[text[:40]], label=text[:140]
        )
    key = JobFiles(folder).ask(HOSTILE[1])
    JobFiles(folder).reply(key, answer(["<s>", *HOSTILE]))
    yield key
    shutil.rmtree(folder)


def harmless(page: Any, where: str) -> None:
    """No script ran, no link or picture of the text became one, nothing is wider than the window, no key shows."""
    for frame in page.frames:
        assert frame.evaluate("window.hacked") is None, where
        bad = 'a[href^="javascript"], a[href*=":9/"], img[src*=":9/"], img[src="x"], svg[onload], [onerror]'
        assert frame.locator(bad).count() == 0, where
        assert KEY not in frame.content(), where
    assert page.dialogs == [] and page.elsewhere == [], where
    assert KEY not in page.url
    for box in ("document.querySelector('[data-testid=stMain]')", "document.documentElement"):
        assert page.evaluate(f"(e => e.scrollWidth - e.clientWidth)({box})") <= 1, f"{where} is too wide"


def test_every_page_shows_hostile_text_as_text(server: str, page: Any, hostile: str) -> None:
    heard: list[str | bytes] = []
    page.on("websocket", lambda socket: socket.on("framereceived", lambda f: heard.append(f)))
    page.on("console", lambda line: heard.append(line.text))
    views = {"latent": "&latent=1", "map": "&colour=category", "try_text": f"&probe={hostile}&latent=0"}
    for name in PAGES:
        go(page, f"{server}/{name}?run={NAME.replace(' ', '%20')}{views.get(name, '')}")
        assert page.locator("[data-testid=stException]").count() == 0, name
        page.set_viewport_size({"width": 820, "height": 720})
        page.wait_for_timeout(250)
        harmless(page, f"{name} on a tablet")
        page.set_viewport_size({"width": 1280, "height": 720})
        page.wait_for_timeout(150)
        harmless(page, name)
        opened = {"latents": "More", "latent": "Notes"}.get(name)
        if opened:
            page.get_by_role("button", name=opened).click()
            page.wait_for_selector("[data-testid=stPopoverBody]")
            settle(page)
            harmless(page, f"{name}, {opened}")
    assert heard and not any(KEY in (h if isinstance(h, str) else h.decode("latin-1")) for h in heard)


def test_what_is_typed_as_a_review_is_text_and_lands_in_the_report(
    server: str, page: Any, serving: Server, hostile: str
) -> None:
    go(page, f"{server}/latent?run={NAME.replace(' ', '%20')}&latent=30")
    page.get_by_role("button", name="Notes").click()
    page.get_by_label("Note", exact=True).fill(HOSTILE[1])
    page.get_by_label("Label of your own").fill(HOSTILE[0])
    tags = page.get_by_role("combobox", name="Tags")
    tags.click()
    tags.press_sequentially(HOSTILE[2])
    page.wait_for_timeout(200)
    harmless(page, "a tag being typed")
    tags.press("Enter")
    page.get_by_label("Note", exact=True).click()  # the list of tags closes
    page.get_by_role("button", name="Save").click()
    settle(page)
    harmless(page, "the saved review")
    said = History(serving.runs / NAME).reviews()[30]
    assert (said.note, said.label, said.tags) == (HOSTILE[1], HOSTILE[0], (HOSTILE[2],))


def test_exports_are_harmless_where_they_are_opened(
    server: str, page: Any, serving: Server, hostile: str, tmp_path: Path
) -> None:
    go(page, f"{server}/report?run={NAME.replace(' ', '%20')}")
    found = {}
    for name in ("HTML", "Markdown", "JSON", "CSV of latents"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        found[name] = Path(download.value.path()).read_bytes()
        assert KEY.encode() not in found[name]
    cells = [cell for row in csv.reader(io.StringIO(found["CSV of latents"].decode())) for cell in row]
    assert any("HYPERLINK" in cell for cell in cells)
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells), "a spreadsheet would calculate it"
    html = found["HTML"].decode()
    # By its own policy no script could run: without it the text's escaping alone must do.
    unguarded = html.replace("Content-Security-Policy", "nothing")
    assert unguarded != html
    for text, width in ((html, 1280), (unguarded, 1280), (unguarded, 820)):
        file = tmp_path / f"report-{width}.html"
        file.write_text(text, encoding="utf-8")
        page.set_viewport_size({"width": width, "height": 720})
        page.elsewhere.clear()
        page.goto(file.as_uri())
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None and page.dialogs == []
        assert [url for url in page.elsewhere if not url.startswith("file:")] == []
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 1, width


def test_the_key_is_in_no_file_and_no_log(
    serving: Server, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    write_report(Run(serving.runs / NAME))
    files = [Path(root) / name for root, _, names in os.walk(serving.runs) for name in names]
    assert len(files) > 12
    for file in [*files, serving.log]:
        assert KEY.encode() not in file.read_bytes(), file
