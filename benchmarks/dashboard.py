"""The dashboard on a made-up run of 131,072 latents with 20 contexts of 64 tokens each (2.5M contexts of live ones).

The run is made once (four minutes, 2 GB) in $MNEME_CACHE/benchmarks. Pages are timed in process, by reruns of
their script; first paint, sessions and memory on a server of its own with headless Chromium that has kept nothing.
First paint: the Overview's sentence and its cards are there; beside it, in turn, the least that Streamlit takes here,
an otherwise empty page's one Plotly chart. The vectors of the labels are random ones, 131,072 different: made-up
labels repeat, and repeated ones are kept once.

python benchmarks/dashboard.py [--latents 131072] [--repeats 12] [--no-browser]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from common import print_result, size_mb

from mneme.models.gguf import cache_folder
from mneme.search import build_index, find_text, is_current
from mneme.search.fulltext import query_words
from mneme.search.meaning import find_meaning
from mneme.store.queries import latents as queries
from mneme.store.queries import search, triage
from mneme.store.queries.latents import VERDICTS, LatentFilter
from mneme.store.run import Run, open_run
from mneme.testing.synthetic import make_synthetic_run

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "dashboard" / "app.py"
PAGES = (
    "overview",
    "side_effects",
    "latents",
    "latent",
    "map",
    "review",
    "evidence",
    "health",
    "report",
    "runs",
)
HEADLINE = "document.querySelector('h4') && document.querySelectorAll('[data-testid=stMetric]').length === 6"
"""The Overview's sentence and all its cards."""
DRAWN = (
    "[...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('.xtick')).length >= {}"
)
"""So many Plotly charts, with their axes."""
EMPTY = (
    "import plotly.graph_objects as go, streamlit as st\nst.plotly_chart(go.Figure(go.Bar(x=[0], y=[1])))\n"
)
VISITS = 6
WORDS = ("virus", "virus host", "the", "protein zebra", "senate treaty colony")
FILTERS: list[dict[str, Any]] = [{"verdicts": (v,)} for v in VERDICTS[:4]] + [
    {"category": "virology"},
    {"q_max": 0.01},
    {"text": "protein"},
    {"boxes": {"delta_norm": (0.6, 0.8)}},
]


def the_run(latents: int) -> Run:
    """The made-up run with its index, from the cache."""
    folder = cache_folder() / "benchmarks" / f"dashboard-{latents}"
    if not (folder / "run.duckdb").exists():
        print(f"making {folder}", flush=True)
        make_synthetic_run(folder, latents=latents, contexts=20, window=64, documents=5000)
    run = open_run(folder)
    if not is_current(run):
        started = time.perf_counter()
        build_index(run)
        rng = np.random.default_rng(0)
        ids = search.label_texts(run)["latent"].to_numpy(np.int32)
        vectors = rng.normal(size=(len(ids), 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.savez(
            folder / "search" / "meaning.npz", vectors=vectors.astype(np.float16), latent=ids,
            which=np.arange(len(ids), dtype=np.int32),
        )  # fmt: skip
        facts = {"seconds": time.perf_counter() - started}
        (folder / "built.json").write_text(json.dumps(facts))
    return run


def p95(seconds: list[float]) -> float:
    """In milliseconds."""
    return round(1000 * float(np.percentile(seconds, 95)), 1)


def timed(function: Any, repeats: int) -> list[float]:
    """Seconds of each call after a first one."""
    function()
    out = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        out.append(time.perf_counter() - started)
    return out


def pages(run: Run, repeats: int) -> tuple[dict[str, float], float]:
    """Page -> p95 of a rerun, ms; and the largest figure of the page Latents in MB."""
    from streamlit.testing.v1 import AppTest

    os.environ["MNEME_RUNS"], os.environ["MNEME_RUN"] = str(run.path.parent), run.name
    found, payload = {}, 0.0
    for page in PAGES:
        app = AppTest.from_file(str(APP), default_timeout=120)
        app.query_params["run"] = run.name
        app.run()
        if page != "overview":
            app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception, (page, app.exception[0].value)
        found[page] = p95(timed(app.run, repeats))
        if page == "latents":
            specs = [len(e.proto.spec) for e in _elements(app.main) if getattr(e.proto, "spec", "")]
            payload = max(specs, default=0) / 1e6
    return found, payload


def _elements(block: Any) -> list[Any]:
    out = []
    for child in getattr(block, "children", {}).values():
        out += _elements(child) if hasattr(child, "children") else [child]
    return out


def sessions_agree(run: Run) -> bool:
    """Eight threads at once, each with a filter of its own, twenty times: the same rows as alone."""
    alone = [queries.table(run, LatentFilter(**f)) for f in FILTERS]

    def again(i: int) -> bool:
        return all(queries.table(run, LatentFilter(**FILTERS[i])).equals(alone[i]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(again, range(8)))


@contextmanager
def serving(script: Path, run: Run) -> Iterator[tuple[str, int]]:
    """A server of its own for an app; its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"],
        env={**os.environ, "MNEME_RUNS": str(run.path.parent), "MNEME_RUN": run.name},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address, server.pid
    finally:
        server.terminate()
        server.wait()


def paint(browser: Any, address: str, *shown: str) -> list[float]:
    """Seconds until a browser that has never been there shows each of `shown`, JavaScript conditions in turn."""
    tab = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    seconds, started = [], time.perf_counter()
    tab.goto(address, wait_until="commit")
    for condition in shown:
        tab.wait_for_function(condition, timeout=60_000)
        seconds.append(time.perf_counter() - started)
    tab.context.close()
    return seconds


def in_browser(run: Run) -> dict[str, Any]:
    """First paint and that of an empty page with a chart (s), the server's memory (GB), whether sessions are right."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        return {}
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        with serving(empty, run) as (other, _), serving(APP, run) as (address, server):
            view = f"{address}/?run={run.name}"
            least, ours = [], []
            for _ in range(VISITS):  # in turn: whatever else the machine does slows both
                least += paint(browser, other, DRAWN.format(1))
                ours.append(paint(browser, view, HEADLINE, DRAWN.format(3)))
            right = counts_right(browser, address, run)
            memory = psutil.Process(server).memory_info().rss / 1e9
        browser.close()
    first, plots = (float(np.median([visit[i] for visit in ours[1:]])) for i in (0, 1))
    page = float(np.median(least[1:]))
    return {
        "first_paint_cold_s": ours[0][0],
        "first_paint_s": first,
        "plots_s": plots,
        "empty_page_cold_s": least[0],
        "empty_page_s": page,
        "first_paint_ratio": first / page,
        "server_gb": memory,
        "counts_right": right,
    }


def counts_right(browser: Any, address: str, run: Run) -> bool:
    """Eight tabs at once, each with a filter of its own, show the count that the filter has."""
    from playwright.sync_api import TimeoutError as NeverShown

    right = []
    tabs = [browser.new_context().new_page() for _ in range(8)]
    for i, tab in enumerate(tabs):
        tab.goto(f"{address}/latents?run={run.name}&verdict={VERDICTS[i % 4]}", wait_until="commit")
    for i, tab in enumerate(tabs):
        count = queries.count(run, LatentFilter(verdicts=(VERDICTS[i % 4],)))
        try:
            tab.get_by_text(f"{count:,} latents").first.wait_for(timeout=60_000)
            right.append(True)
        except NeverShown:  # a wrong count, or none within a minute
            right.append(False)
    return all(right)


def most(value: float | None, limit: float) -> dict[str, Any]:
    """A floor that is a ceiling."""
    return {"value": value, "floor": limit, "met": None if value is None else value <= limit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latents", type=int, default=131_072)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # scripts that run outside a server are warned about
    run = the_run(options.latents)

    reruns, payload = pages(run, options.repeats)
    words = {w: p95(timed(lambda w=w: find_text(run, w), options.repeats)) for w in WORDS}
    why = p95(
        timed(
            lambda: search.snippets(run, find_text(run, "virus")[:100], query_words("virus")), options.repeats
        )
    )
    meaning = p95(timed(lambda: find_meaning(run, "a disease spreads through the town"), options.repeats))
    queue = p95(timed(lambda: triage.queue(run, limit=500), options.repeats))
    agree = sessions_agree(run)
    seen = {} if options.no_browser else in_browser(run)

    for page, ms in reruns.items():
        print(f"{page:<28}{ms:>9.1f} ms  p95 of a rerun")
    for text, ms in words.items():
        print(f"words {text!r:<22}{ms:>9.1f} ms")
    print(f"{'snippets of 100 latents':<28}{why:>9.1f} ms\n{'meaning':<28}{meaning:>9.1f} ms")
    print(f"{'review queue':<28}{queue:>9.1f} ms\n{'largest figure':<28}{payload:>9.2f} MB")
    for name, value in seen.items():
        print(f"{name:<28}{value!s:>9.9}")
    print(f"eight threads, the same rows: {agree}")
    slowest = max(reruns.values())
    ok = agree and bool(seen.get("counts_right", True))
    print_result(
        "dashboard",
        {
            "latents": options.latents, "reruns_ms": reruns, "words_ms": words, "snippets_ms": why,
            "meaning_ms": meaning, "queue_ms": queue, **seen,
            "index": json.loads((run.path / "built.json").read_text()),
            "index_mb": {part: size_mb(run.path / "search" / part) for part in ("text", "meaning.npz")},
            **({} if seen else {"not_measured": "browser: no Chromium, or --no-browser"}),
        },
        {
            "slowest_page_ms": most(slowest, 300),
            "search_words_ms": most(max(words.values()), 300),
            "search_meaning_ms": most(meaning, 300),
            "review_queue_ms": most(queue, 300),
            "figure_mb": most(payload, 3),
            "first_paint_ratio": most(seen.get("first_paint_ratio"), 1.4),
            "server_gb": most(seen.get("server_gb"), 1.5),
            "sessions_right": {"value": ok, "floor": True, "met": ok},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
