"""Try text and Compare: what the pages show of an answer, and that they never compute themselves."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest
from test_pages import open_page

from dashboard.components import reading
from mneme.compare.cache import CompareFile
from mneme.probe.job_files import JobFiles
from mneme.store.run import Run
from mneme.testing.synthetic import HOSTILE, make_synthetic_run


def answer(tokens: list[str]) -> dict[str, Any]:
    """A made-up reading: latent 0 fires on every token but the first, latent 2 on the last."""
    n = len(tokens)
    return {
        "tokens": tokens,
        "left_out": [True] + [False] * (n - 1),
        "kl": [*[0.1 * i for i in range(n - 1)], None],
        "nll_base": [*[1.0] * (n - 1), None],
        "nll_tuned": [*[1.5] * (n - 1), None],
        "row": [*range(1, n), n - 1],
        "latent": [*[0] * (n - 1), 2],
        "activation": [*[2.0] * (n - 1), 7.0],
        "held_base": [*[1.0] * (n - 1), 7.0],
        "held_tuned": [*[2.0] * (n - 1), 7.0],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hostile run with an answer, and another run; no worker is ever started."""
    make_synthetic_run(tmp_path / "one", latents=60, contexts=4, window=8, hostile=True)
    make_synthetic_run(tmp_path / "two", latents=60, contexts=4, window=8, seed=1)
    return tmp_path


def page(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, **parameters: str) -> AppTest:
    monkeypatch.setattr(JobFiles, "start_worker", lambda self: None)
    monkeypatch.setattr(CompareFile, "start", lambda self: self.say(pid=os.getpid(), since=time.time()))
    return open_page(monkeypatch, folder, name, "one", **parameters)


def test_both_models_hold_of_a_latent_is_shown_and_hostile_tokens_are_escaped(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    job_files = JobFiles(folder / "one")
    key = job_files.ask("whatever")
    job_files.reply(key, answer(["<s>", *HOSTILE]))
    app = page(monkeypatch, folder, "try_text", latent="0", probe=key)
    strips = [block.value for block in app.html if "mneme-ctx" in block.value]
    assert len(strips) == 2, "as the base holds it, and as the tuned model does"
    assert not any("<script" in s or "<img" in s for s in strips)
    table = app.dataframe[0].value
    row = table[table["latent"] == 0].iloc[0]
    assert row["beta_base"] == pytest.approx(0.5) and row["beta_tuned"] == pytest.approx(1.0)
    assert any("+0.5" in m.value for m in app.metric)


def test_a_reading_counts_what_was_measured_only() -> None:
    found = answer(["<s>", "a", "b"])
    assert reading.mean(found["kl"]) == pytest.approx(0.05)
    assert reading.mean_change(found) == pytest.approx(0.5)
    pairs = reading.pairs_frame(found)
    assert reading.token_frame(found, pairs, {2: "label"})["strongest"][2].startswith("2 label")
    (strip,) = reading.strips(found, pairs, "changed", None, [2]).values()
    assert strip.count("background") == 1


def test_a_submitted_text_waits_for_the_worker_and_can_be_withdrawn(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    app = page(monkeypatch, folder, "try_text")
    app.text_area[0].set_value("the cat sat")
    next(b for b in app.button if b.label == "Read").click().run()
    (request,) = JobFiles(folder / "one").waiting()
    assert request.text == "the cat sat" and app.query_params["probe"] == request.id
    next(b for b in app.button if b.label == "Try again")  # no worker lives: the page says so
    JobFiles(folder / "one").reply(request.id, {"error": "the text has 9 tokens\nshorten it"})
    app.run()
    assert "could not be read" in app.error[0].value


def test_a_cancelled_text_is_said_to_be_taken_back_and_stays_to_be_read_again(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    app = page(monkeypatch, folder, "try_text")
    app.text_area[0].set_value("the cat sat")
    monkeypatch.setattr(JobFiles, "worker", lambda self: {"pid": 0, "doing": "waiting", "since": 0.0})
    next(b for b in app.button if b.label == "Read").click().run()
    next(b for b in app.button if b.label == "Cancel").click().run()
    assert JobFiles(folder / "one").waiting() == []
    app.run()
    assert "taken back" in app.info[0].value and app.text_area[0].value == "the cat sat"


def test_a_link_to_what_is_no_longer_kept_says_so(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for key in ("0123456789abcdef", "../../etc/passwd"):
        app = page(monkeypatch, folder, "try_text", probe=key)
        assert "no longer kept" in app.warning[0].value


def test_one_run_alone_cannot_be_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_synthetic_run(tmp_path / "one", latents=20)
    app = page(monkeypatch, tmp_path, "compare")
    assert "only one run" in app.info[0].value and "mneme run" in app.code[0].value


def test_runs_side_by_side(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    kept = CompareFile(folder / "one", folder / "two")
    kept.file.parent.mkdir()
    n = np.arange(60)
    pairs = pd.DataFrame({"latent": n, "other": n[::-1], "similarity": 0.9, "agreed": n < 30})
    facts = {"method": "decoder", "why": "Both read layer 14."}
    pq.write_table(
        pa.Table.from_pandas(pairs, preserve_index=False).replace_schema_metadata(facts), kept.file
    )
    app = page(monkeypatch, folder, "compare", **{"with": "two"})
    assert not app.exception
    assert app.metric[0].value == "30 of 60"
    one, two = (
        Run(folder / name).sql("SELECT verdict FROM latents ORDER BY latent")["verdict"]
        for name in ("one", "two")
    )
    crossed = next(d.value for d in app.dataframe if d.value.index.name == "A \\ B")
    assert crossed.to_numpy().sum() == 30
    both = pd.crosstab(one[:30].to_numpy(), two[::-1][:30].to_numpy())
    assert sorted(v for v in crossed.to_numpy().ravel() if v) == sorted(
        v for v in both.to_numpy().ravel() if v
    )


def test_matching_under_way_shows_progress_and_a_failure_its_reason(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(CompareFile, "state", lambda self: {"error": "neither layer nor text"})
    app = page(monkeypatch, folder, "compare")
    assert "could not be matched" in app.error[0].value
    assert any("neither" in code.value for code in app.code)
