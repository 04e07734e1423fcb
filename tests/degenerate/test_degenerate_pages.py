"""Every page of the dashboard draws a degenerate run."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from degenerate.conftest import KINDS, Amended
from streamlit.testing.v1 import AppTest

from mneme.compare.cache import CompareFile

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
PAGES = sorted(path.stem for path in (APP.parent / "app_pages").glob("*.py"))
NOT_A_NUMBER = re.compile(r"(?<![\w.])(nan|NaN|inf|-inf|None|NaT|<NA>)(?![\w.])")


@pytest.fixture(autouse=True)
def _no_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page Compare starts no process of its own here."""
    monkeypatch.setattr(CompareFile, "start", lambda self: self.say(pid=os.getpid(), since=time.time()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_draws_the_run(monkeypatch: pytest.MonkeyPatch, runs: Path, kind: str) -> None:
    draw_all(monkeypatch, runs, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_draws_what_the_commands_left(
    monkeypatch: pytest.MonkeyPatch, amended: Amended, kind: str
) -> None:
    for other in KINDS:
        if other != kind:
            CompareFile(amended.runs / kind, amended.runs / other).make()
    draw_all(monkeypatch, amended.runs, kind)


def draw_all(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Every page of the run; no exception, and no number that is none."""
    monkeypatch.setenv("MNEME_RUNS", str(folder))
    app = AppTest.from_file(str(APP), default_timeout=30)
    app.query_params["run"] = kind
    app.run()
    for page in PAGES:
        app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception, (page, app.exception[0].value, app.exception[0].stack_trace)
        assert app.title, page
        told = [*app.markdown, *app.caption, *app.info, *app.warning, *app.error, *app.metric]
        for element in told:
            text = str(element.value)
            assert not NOT_A_NUMBER.search(text), (page, text)
