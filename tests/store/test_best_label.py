"""One label stands for a latent, the same in every table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mneme.report.exports import export_table
from mneme.store.queries import effects, latents
from mneme.store.queries import latent as one_latent
from mneme.store.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    labels = [
        (0, "offline words", "offline", 0.9, 0.5, 0.2),
        (0, "a model's words", "llm:m", None, None, None),  # not scored: the offline score is not its own
        (1, "good but not surely", "offline", 0.8, 0.5, -0.1),
        (2, "bad", "offline", 0.5, 0.5, None),
        (2, "worse", "other offline", 0.4, 0.3, None),  # made before gains had intervals
    ]
    with made.stage_writer() as writer:
        frame = pd.DataFrame({"latent": [0, 1, 2, 3], "verdict": "amplified", "severity": [4.0, 3, 2, 1]})
        writer.append("latents", frame)
        columns = ["latent", "label", "method", "score", "score_shuffled", "gain_low"]
        writer.append("labels", pd.DataFrame(labels, columns=columns))
        near = pd.DataFrame({"latent": 3, "kind": "decoder", "rank": [0, 1, 2], "neighbour": [0, 1, 2]})
        writer.append("neighbours", near.assign(similarity=[0.9, 0.8, 0.7]))
        moved = pd.DataFrame({"category": "law", "latent": [0, 1, 2], "rank": [0, 1, 2]})
        writer.append("effect_latents", moved.assign(contribution=[0.3, 0.2, 0.1]))
    return made


def test_every_table_shows_the_same_label_and_whether_it_is_reliable(run: Run) -> None:
    expected = [("a model's words", False), ("good but not surely", True), ("worse", False)]
    for found in (
        latents.table(run, latents.LatentFilter()).head(3),
        one_latent.neighbours(run, 3),
        effects.top_latents(run, "law"),
    ):
        assert list(zip(found["label"], found["unreliable"], strict=True)) == expected
    assert run.latents()["label"].to_list()[:3] == [label for label, _ in expected]
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE labels SET score_shuffled = 0.5 WHERE latent = 2")
    assert one_latent.neighbours(run, 3)["unreliable"].to_list() == [False, True, True]


def test_a_label_never_borrows_another_ones_score(run: Run) -> None:
    exported = export_table(run, "latents").to_pandas().set_index("latent")
    assert exported.loc[0, "label"] == "a model's words" and pd.isna(exported.loc[0, "label_score"])
    assert pd.isna(latents.table(run, latents.LatentFilter()).set_index("latent").loc[0, "score"])
