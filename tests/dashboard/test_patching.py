"""What patching found, on the pages Latent and Side effects."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_pages import open_page

from dashboard.components.patching import axis, share_bars
from mneme.store.run import Run


@pytest.fixture
def alone(runs: Path, tmp_path: Path) -> Run:
    """A run of its own."""
    shutil.copytree(runs / "whole", tmp_path / "runs" / "whole")
    return Run(tmp_path / "runs" / "whole")


def shown(app) -> str:
    assert not app.exception
    html = [block.proto.body for block in app.get("html")]
    return "\n".join([*html, *(m.value for m in (*app.markdown, *app.caption, *app.info))])


def test_a_latent_shows_its_patches_beside_controls(monkeypatch, runs: Path) -> None:
    run = Run(runs / "whole")
    latent, share = run.rows(
        "SELECT latent, kl_share FROM causal WHERE latent IS NOT NULL AND source = 'latent' AND patch = 'undo' LIMIT 1"
    )[0]
    text = shown(open_page(monkeypatch, runs, "latent", latent=str(latent)))
    assert "Undone in the tuned model" in text and "Done in the base" in text
    assert f"this latent: {100 * share:.0f}" in text and "another latent&#x27;s direction" in text
    assert "Taken out of a model" in text


def test_a_latent_that_was_not_tried_says_what_tries_it(monkeypatch, runs: Path) -> None:
    latent = Run(runs / "whole").rows(
        "SELECT latent FROM latents WHERE NOT dead AND latent NOT IN"
        " (SELECT latent FROM causal WHERE latent IS NOT NULL) LIMIT 1"
    )[0][0]
    assert f"mneme causal RUN --latents {latent}" in shown(
        open_page(monkeypatch, runs, "latent", latent=str(latent))
    )


def test_side_effects_tell_what_all_changed_latents_carry(monkeypatch, alone: Run) -> None:
    text = shown(open_page(monkeypatch, alone.path.parent, "side_effects"))
    assert "as many unchanged latents: 1 %" in text and "Undoing the change of" in text
    with alone.stage_writer() as writer:
        writer.connection.execute("DELETE FROM causal")
    assert "mneme causal RUN" in shown(open_page(monkeypatch, alone.path.parent, "side_effects"))


def test_a_share_that_is_not_told_has_no_bar() -> None:
    rows = pd.DataFrame(
        {
            "source": ["latent", "<b>x</b>"],
            "kl_share": [float("nan"), -2.0],
            "kl_low": [float("nan"), -3.0],
            "kl_high": [float("nan"), -1.0],
        }
    )
    html = share_bars(rows, "Undone", axis(rows))
    assert "too little to tell" in html and html.count('class="bar"') == 1
    assert "<b>x" not in html and "left:0.0%" in html, "a bar that reaches below the axis is cut there"
    assert share_bars(rows.iloc[:1], "Undone", axis(rows.iloc[:1])).count('class="bar"') == 0
