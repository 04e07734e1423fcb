"""What a run will take is said before the work, close to what it then takes, and refused where it can't be had."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mneme._util.console import RichProgress
from mneme._util.errors import ConfigError, DiskFullError
from mneme._util.progress import NULL_PROGRESS
from mneme.cli import main
from mneme.config import make_config
from mneme.harvest import ActivationCache
from mneme.run.context import RunContext
from mneme.run.estimate import estimate
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def bench_of(settings: dict[str, Any], folder: Path, **harvest: Any) -> RunContext:
    values = {**settings, "harvest": {**settings["harvest"], **harvest}}
    return RunContext(make_config(values), folder, NULL_PROGRESS)


def test_sizes_on_disk_are_foretold(settings: dict[str, Any], whole_run: Run, tmp_path: Path) -> None:
    expected = estimate(bench_of(settings, tmp_path / "new"))
    cache = ActivationCache(whole_run.path / "activations")
    assert expected.documents == cache.n_documents
    assert expected.tokens == cache.n + cache.n_skipped_sinks
    assert expected.activations == pytest.approx(size(whole_run.path / "activations"), rel=0.1)
    assert expected.codes == pytest.approx(size(whole_run.path / "codes"), rel=0.35)  # L0 is near k
    assert size(whole_run.path / "crosscoder") < expected.crosscoder
    assert not (tmp_path / "new").exists()  # nothing is written to tell it


def test_the_estimate_is_one_line_first_on_the_console_and_in_the_progress_file(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.harvest.harvest", stop)
    console = Console(record=True, width=40, file=sys.stderr)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(make_config(settings), tmp_path / "run", RichProgress(console))
    lines = [line for line in console.export_text().splitlines() if line.startswith("estimate: ")]
    said = estimate(bench_of(settings, tmp_path / "run")).sentence()
    assert lines[0].removeprefix("estimate: ").split(" of ")[0] == said.split(" of ")[0]
    assert "free; harvest and training take about" in lines[0]
    tasks = json.loads((tmp_path / "run" / "progress.json").read_text())["tasks"]
    assert [(task["name"], task["note"]) for task in tasks] == [
        ("estimate", lines[0].removeprefix("estimate: "))
    ]


def test_a_run_too_large_for_the_disk_is_refused_with_what_fits(
    settings: dict[str, Any], whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = estimate(bench_of(settings, tmp_path / "run"))
    room = needed.crosscoder + (needed.activations + needed.codes) // 2
    usage = type("Usage", (), {"free": room})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    expected = estimate(bench_of(settings, tmp_path / "run"))
    with pytest.raises(
        DiskFullError, match=rf"max_tokens to {needed.tokens // 2:,} \(now {needed.tokens:,}\)$"
    ):
        expected.check(tmp_path / "run")
    with pytest.raises(DiskFullError, match="the run needs"):
        run_pipeline(make_config(settings), tmp_path / "run")
    assert not (tmp_path / "run" / "activations").exists()
    # what a run already wrote is gone on with, so its own files don't count against it
    assert estimate(bench_of(settings, whole_run.path)).free > room


def test_the_cap_leaves_text_out(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = estimate(bench_of(settings, tmp_path))
    cap = whole.activations / 2 / 1e9
    capped = estimate(bench_of(settings, tmp_path, cache_gb=cap))
    assert 0.45 * whole.activations < capped.activations <= cap * 1e9
    assert "capped at" in capped.sentence() and "capped" not in whole.sentence()
    fewer = estimate(bench_of(settings, tmp_path, cache_gb=cap, max_tokens=600))
    assert fewer.tokens == 600
    with pytest.raises(ConfigError, match=r"harvest\.cache_gb = 1e-05 holds \d+ tokens, fewer than"):
        estimate(bench_of(settings, tmp_path, cache_gb=1e-5))


def test_a_dry_run_says_it_and_writes_nothing(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(settings["corpus"]))
    words = ["run", "--base", settings["base"], "--tuned", settings["tuned"], "--corpus", str(text)]
    monkeypatch.setattr(sys, "argv", ["mneme", *words, "--out", str(tmp_path / "run"), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().out
    assert not ended.value.code and said.count("\n") == 2
    assert "the text is 1 document, however long: documents are the unit of evidence" in said
    assert "tokens of 1 document; on disk" in said
    assert not (tmp_path / "run").exists()
