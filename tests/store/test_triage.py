"""The queue of latents to review: severe and unsure changes first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mneme.store.queries import triage
from mneme.store.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [
        (0, "amplified", 0.5, 0.9, 1.1),
        (1, "suppressed", 0.5, -2.0, -0.5),  # as severe, a wider interval
        (2, "amplified", 0.1, 0.5, 2.0),
        (3, "amplified", 0.1, None, None),  # never pinned down
        (4, "uncertain", 0.9, -3.0, 3.0),
        (5, "unchanged", 0.9, -0.1, 0.1),
        (6, "dead", None, None, None),
    ]
    frame = pd.DataFrame(rows, columns=["latent", "verdict", "severity", "ci_low", "ci_high"])
    made = Run(tmp_path / "run")
    with made.stage_writer() as writer:
        writer.append("latents", frame.assign(turned=[j == 5 for j in frame.latent]))
    return made


def test_severe_and_unsure_changes_come_first(run: Run) -> None:
    found = triage.queue(run)
    assert found["latent"].to_list() == [1, 3, 0, 2, 4]
    assert found["priority"].iloc[0] == pytest.approx(0.5 * 1.5 / 2.5)


def test_reviewed_ones_leave_the_queue_and_count(run: Run) -> None:
    assert triage.queue(run, without=[1, 0])["latent"].to_list() == [3, 2, 4]
    assert triage.queue(run, only=[5, 0])["latent"].to_list() == [0, 5]
    assert triage.queue(run, only=[]).empty
    assert triage.following(run, [1]) == 3 and triage.following(run, [0, 1, 2, 3, 4]) is None
    assert triage.progress(run, [1, 5]) == {
        "changed": 4,
        "changed_done": 1,
        "uncertain": 1,
        "uncertain_done": 0,
    }
