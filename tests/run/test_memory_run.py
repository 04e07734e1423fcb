"""`mneme.diff` of models in memory: a whole run, and what is told where it needs the models later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_tokenizer

import mneme
from mneme._util.errors import ModelError, UserError
from mneme._util.notebook import TqdmProgress, shown
from mneme._util.progress import NULL_PROGRESS
from mneme.config import make_config, read_config
from mneme.models import load_model
from mneme.run.pair_of_run import pair_of_run


def test_a_run_of_models_in_memory_is_whole_and_says_that_they_are_gone(
    cli: Any, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [load_model(settings[name], dtype="float32", device="cpu") for name in ("base", "tuned")]
    sections = {key: value for key, value in settings.items() if isinstance(value, dict)}
    out = tmp_path / "run"
    options = {
        "tokenizer": tiny_tokenizer(),
        "corpus": settings["corpus"],
        "out": out,
        "layer": 1,
        **sections,
    }
    run = mneme.diff(*models, **options)
    assert run.info()["base"].startswith("memory:") and len(run.latents()) == 48
    before = (out / "run.duckdb").stat().st_mtime_ns
    mneme.diff(*models, **options)  # nothing to do
    assert (out / "run.duckdb").stat().st_mtime_ns - before < 10**12
    code, text, err = cli("label", out, "--offline")
    assert code == 0 and "labels by offline" in text, err
    with pytest.raises(ModelError, match="in the memory of a program: save it"):
        pair_of_run(out, make_config(read_config(out / "run.toml")))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="in one process"):
        mneme.diff(*models, **{**options, "out": tmp_path / "other"})


def test_bars_are_drawn_where_a_person_looks_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(None) is NULL_PROGRESS and shown(False) is NULL_PROGRESS
    assert shown(NULL_PROGRESS) is NULL_PROGRESS
    bars = shown(True)
    assert isinstance(bars, TqdmProgress)
    with bars.task("training", total=10, unit="steps") as task:
        task.advance(4)
        task.note("loss 3")
    with bars.task("layer", total=None) as task:
        task.note("14 is read")
    found = capsys.readouterr()
    assert "10/10" in found.err and "layer: 14 is read" in found.out + found.err
    monkeypatch.setattr("mneme._util.notebook.in_notebook", lambda: True)
    assert isinstance(shown(None), TqdmProgress) and shown(False) is NULL_PROGRESS
