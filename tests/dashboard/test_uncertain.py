"""Why a latent is uncertain, in the table, on its page and on Health; ends that nothing bounds are undetermined."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from test_pages import open_page

from dashboard.components import words
from mneme.attribution.reasons import REASONS
from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run


def test_bounds_of_a_log_ratio() -> None:
    assert words.bounds(1.2, 0.9, 1.5) == "+0.900 … +1.50"
    assert words.bounds(3.9, 3.1, None) == "+3.10 … undetermined"
    assert words.bounds(-3.9, None, -3.1) == "undetermined … −3.10"
    assert words.bounds(0.1, None, float("nan")) == "undetermined"
    assert words.bounds(None, None, None) == "–"


def test_reasons_are_shown_and_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_synthetic_run(tmp_path / "run", latents=150)
    run = Run(tmp_path / "run")
    why = run.sql("SELECT latent, reason FROM latents WHERE verdict = 'uncertain' ORDER BY severity DESC")
    latent, reason = int(why["latent"][0]), why["reason"][0]
    with run.stage_writer() as writer:
        writer.update_latents(pd.DataFrame({"latent": [latent], "ci_low": [None], "ci_high": [None]}))
    table = open_page(monkeypatch, tmp_path, "latents", "run").dataframe[0].value.set_index("latent")
    assert table["reason"][latent] == reason and table["interval"][latent] == "undetermined"
    assert (table["reason"].ne("") == table["verdict"].str.contains("uncertain")).all()
    page = open_page(monkeypatch, tmp_path, "latent", "run", latent=str(latent))
    assert any(f"uncertain: {reason}" in box.value for box in page.markdown)
    assert [m.value for m in page.metric if m.label == "95 % interval"] == ["undetermined"]
    health = open_page(monkeypatch, tmp_path, "health", "run")
    counted = next(t.value for t in health.dataframe if "what it means" in t.value)
    assert dict(zip(counted["reason"], counted["latents"].astype(int), strict=True)) == dict(
        why["reason"].value_counts()
    )
    assert counted["what it means"].tolist() == [REASONS[reason] for reason in counted["reason"]]
