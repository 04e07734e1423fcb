"""The Overview's cards of findings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from dashboard.components import findings
from mneme.store.queries import findings as queries
from mneme.testing.synthetic import make_synthetic_run

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"


def test_at_most_five_cards_and_nothing_of_a_text_as_markup(tmp_path: Path) -> None:
    table = queries.findings(make_synthetic_run(tmp_path / "run", latents=200, contexts=2, documents=10))
    many = pd.concat([table] * 4, ignore_index=True).assign(name="<script>alert(1)</script>")
    html = findings.cards_html(many)
    assert html.count('role="listitem"') == 5 and html.count("data:image/svg+xml") == 5
    assert "<script" not in html and "&lt;script&gt;" in html


def test_what_is_not_tested_is_said_to_be(tmp_path: Path) -> None:
    table = queries.findings(make_synthetic_run(tmp_path / "run", latents=200, contexts=2, documents=10))
    rows = table.to_dict("records")
    assert [findings.seeds(row) for row in rows] == ["3 of 3", "2 of 3", "not tested"]
    assert [findings.causal(row).split(" (")[0] for row in rows] == ["50.0 %", "20.0 %", "not tested"]


@pytest.mark.parametrize("profile", [[], [1.0], [0.0, 0.0], [np.nan, np.nan]])
def test_no_curve_of_nothing(profile: list[float]) -> None:
    assert findings.spark(profile) == ""


def test_a_run_without_a_changed_latent_has_no_cards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "still", latents=60, contexts=2, documents=10)
    with run.stage_writer() as writer:
        writer.clear(["findings", "finding_latents"])
        writer.connection.execute("UPDATE latents SET verdict = 'unchanged'")
    monkeypatch.setenv("MNEME_RUNS", str(tmp_path))
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params["run"] = "still"
    app.run()
    assert not app.exception and "Findings" not in [each.value for each in app.subheader]
