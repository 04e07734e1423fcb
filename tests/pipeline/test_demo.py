"""The quick demo, whole: two real models, real text, every stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mneme.stages import STAGES
from mneme.store.run import Run


@pytest.mark.slow
def test_the_quick_demo_diffs_the_bundled_pair(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mneme", "demo", "--quick", "--no-serve", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert {stage for (stage,) in run.rows("SELECT stage FROM stages")} == {stage.name for stage in STAGES}
    assert run.info()["width"] == "576" and run.info()["layer"] == "14"
    # What was unlearned changed most, on the tuned model's own predictions.
    kl = run.sql(
        "SELECT category, kl FROM effects WHERE kl IS NOT NULL ORDER BY kl DESC LIMIT 12"
    ).category.tolist()
    assert {"college_biology", "virology", "medical_genetics", "high_school_biology", "anatomy"} & set(kl)
    assert run.rows("SELECT count(*) FROM outcomes") == [(57,)]
    assert run.info()["verdict_sentence"].split()[0] in done.stdout
