"""The quick demo, whole: two real models, real text, every stage, and its first page.

MNEME_INSTALLED names the command `mneme` of another environment (.ci/run installs a wheel there): then all of it is
that one's, away from the checkout.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from browsing import IN_CHROMIUM, go, settle, wait_until_served

from mneme.run.stages import STAGES
from mneme.store.run import Run

INSTALLED = os.environ.get("MNEME_INSTALLED")
FAR = ("history", "law", "politics", "economics", "business", "language")
MNEME = [INSTALLED] if INSTALLED else [sys.executable, "-m", "mneme"]


class Demo(NamedTuple):
    """The finished run, and what was said of it."""

    run: Run
    said: str


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    there = tmp_path_factory.mktemp("demo")
    command = [*MNEME, "demo", "--quick", "--no-serve", "--out", "run"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=there)
    assert done.returncode == 0, done.stderr
    return Demo(Run(there / "run"), done.stdout)


@pytest.fixture
def address(demo: Demo) -> Iterator[str]:
    """Where `mneme dashboard` serves the demo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = demo.run.path.parent
    with (there / "log").open("wb") as log:
        command = [*MNEME, "dashboard", "run", "--port", str(port)]
        process = subprocess.Popen(command, cwd=there, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_until_served(f"http://127.0.0.1:{port}", process, there / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


@pytest.mark.slow
def test_the_quick_demo_diffs_the_bundled_pair(demo: Demo) -> None:
    run = demo.run
    assert {stage for (stage,) in run.rows("SELECT stage FROM stages")} == {stage.name for stage in STAGES}
    assert run.info()["width"] == "576" and run.info()["layer"] == "14"
    assert 24_000 < int(run.info()["n_tokens"]) < 27_000
    # Biology was removed, and that is what is found: on the subjects themselves, and not on those far from it.
    called = run.sql("SELECT category, verdict, grp FROM effects JOIN categories USING (category)")
    degraded = set(called[called.verdict == "degraded"].category)
    assert {"college_biology", "virology", "medical_genetics", "anatomy"} <= degraded
    far = called[called.grp.isin(FAR)]
    assert len(far) > 10 and not degraded & set(far.category)
    assert run.info()["run_verdict"] == "side effects"
    assert run.rows("SELECT count(*) FROM outcomes") == [(57,)]
    assert run.info()["verdict_sentence"].split()[0] in demo.said


@pytest.mark.slow
class TestPage:
    pytestmark = IN_CHROMIUM

    def test_its_first_page_is_drawn_in_our_colours_and_asks_nobody_else(
        self, demo: Demo, address: str, page: Any
    ) -> None:
        go(page, address)
        settle(page)
        assert demo.run.info()["verdict_sentence"].split()[0] in page.inner_text("[data-testid=stMain]")
        background = page.evaluate(
            "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        )
        assert background in {"rgb(251, 250, 248)", "rgb(21, 25, 28)"}  # .streamlit/config.toml
        assert page.elsewhere == []
