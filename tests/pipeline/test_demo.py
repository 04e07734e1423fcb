"""The quick demo, whole: two real models, real text, every stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mneme.stages import STAGES
from mneme.store.run import Run

FAR = ("history", "law", "politics", "economics", "business", "language")


@pytest.mark.slow
def test_the_quick_demo_diffs_the_bundled_pair(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mneme", "demo", "--quick", "--no-serve", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert {stage for (stage,) in run.rows("SELECT stage FROM stages")} == {stage.name for stage in STAGES}
    assert run.info()["width"] == "576" and run.info()["layer"] == "14"
    assert 24_000 < int(run.info()["n_tokens"]) < 27_000
    # Biology was removed, and that is what is found: on the subjects themselves, and not on those far from it.
    called = run.sql("SELECT category, verdict, grp FROM effects JOIN categories USING (category)")
    degraded = set(called[called.verdict == "degraded"].category)
    assert {"college_biology", "virology", "medical_genetics", "anatomy"} <= degraded
    far = called[called.grp.isin(FAR)]
    assert len(far) > 10 and not degraded & set(far.category)
    assert run.rows("SELECT count(*) FROM outcomes") == [(57,)]
    assert run.info()["verdict_sentence"].split()[0] in done.stdout
