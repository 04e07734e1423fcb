"""A whole run under torchrun: the tables that one process makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mneme.config import make_config
from mneme.store.run import Run, open_run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def mneme(*words: object) -> subprocess.CompletedProcess[str]:
    """`torchrun --nproc-per-node 2 -m mneme ...`"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [*TORCHRUN, "-m", "mneme", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def settings_file(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("settings") / "settings.toml"
    file.write_text(make_config(settings).to_toml())
    return file


def test_two_processes_make_the_run_that_one_makes(
    whole_run: Run, settings_file: Path, tmp_path: Path
) -> None:
    done = mneme("run", settings_file, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert done.stdout.count("Look at it") == 1  # told by one process
    alone, two = (r.sql("SELECT * FROM training ORDER BY step") for r in (whole_run, run))
    np.testing.assert_allclose(two["loss"], alone["loss"], rtol=0.02)
    assert (run.path / "activations" / "index.json").read_text() == (
        whole_run.path / "activations" / "index.json"
    ).read_text()
    again = mneme("run", settings_file, "--out", tmp_path / "run")  # nothing is left to do
    assert again.returncode == 0, again.stderr


def test_what_can_not_be_run_ends_all_processes(settings_file: Path, tmp_path: Path) -> None:
    refused = mneme("run", settings_file, "--out", tmp_path / "run", "--layer", "99")
    assert refused.returncode != 0
    assert "error: layer 99 is out of range" in refused.stderr
