"""A run that is stopped in the midst of each of its tasks, one after another, ends in the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mneme._util.files import sha256
from mneme.config import make_config
from mneme.run.causal import run_causal
from mneme.run.pipeline import run_pipeline
from mneme.store.database import expected_columns
from mneme.store.run import Run

OF_THE_MOMENT = {"stages", "schema_version", "run_info"}


class StopsOnce:
    """Stops each task once, at its second step; what is stopped is remembered over calls."""

    def __init__(self) -> None:
        self.stopped: list[str] = []

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Any]:
        yield _Step(self.stopped, name)


class _Step:
    def __init__(self, stopped: list[str], name: str) -> None:
        self.stopped, self.name, self.steps = stopped, name, 0

    def advance(self, amount: float = 1) -> None:
        self.steps += 1
        if self.steps == 2 and self.name not in self.stopped:
            self.stopped.append(self.name)
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass


def through(work: Any) -> list[str]:
    """Call `work(progress)` again and again until nothing stops it; the tasks that were stopped."""
    progress = StopsOnce()
    while True:
        try:
            work(progress)
        except KeyboardInterrupt:
            continue
        return progress.stopped


def _order(frame: pd.DataFrame) -> list[int]:
    """Rows by all that they say: tables have no order of their own."""
    rows = [repr(tuple(row)) for row in frame.itertuples(index=False)]
    return sorted(range(len(rows)), key=rows.__getitem__)


def assert_same_bits(run: Run, other: Run, names: set[str]) -> None:
    for name in sorted(names):
        mine, theirs = (each.sql(f"SELECT * FROM {name}") for each in (run, other))
        assert len(mine) == len(theirs), name
        mine, theirs = (frame.iloc[_order(frame)].reset_index(drop=True) for frame in (mine, theirs))
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True, obj=name)


def test_a_run_stopped_in_each_task_ends_in_the_same_bits(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stopped = through(lambda progress: run_pipeline(make_config(settings), tmp_path / "run", progress))
    finally:
        torch.set_num_threads(threads)
    assert {"harvest", "train crosscoder"} <= set(stopped) and len(stopped) >= 6, stopped
    run = Run(tmp_path / "run")
    assert_same_bits(run, whole_run, set(expected_columns()) - OF_THE_MOMENT)
    for name in ("crosscoder/model.safetensors", "activations/00001.safetensors", "codes/00000.safetensors"):
        assert sha256(run.path / name) == sha256(whole_run.path / name), name


def test_patching_stopped_midway_ends_in_the_same_bits(whole_run: Run, tmp_path: Path) -> None:
    latents = [
        latent
        for (latent,) in whole_run.rows("SELECT DISTINCT latent FROM contexts WHERE quantile = 0 LIMIT 3")
    ]
    made = []
    for name in ("stopped", "plain"):
        shutil.copytree(whole_run.path, tmp_path / name)
        with Run(tmp_path / name).stage_writer() as writer:
            writer.update_latents(pd.DataFrame({"latent": latents, "verdict": "amplified"}))

        def work(progress: Any, folder: Path = tmp_path / name) -> None:
            run_causal(folder, latents=latents, contexts=3, tokens=1500, progress=progress)

        if name == "stopped":
            assert "causal: each latent" in through(work)
        else:
            run_causal(tmp_path / name, latents=latents, contexts=3, tokens=1500)
        made.append(Run(tmp_path / name))
    assert_same_bits(*made, {"causal", "causal_ablations"})
