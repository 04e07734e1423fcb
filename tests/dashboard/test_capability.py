"""The page Side effects shows capability apart from NLL, and only where the base beats guessing."""

from __future__ import annotations

from pathlib import Path

from test_pages import open_page
from test_patching import shown

from dashboard.components import capability
from mneme.store.queries.outcomes import capabilities
from mneme.testing.synthetic import make_synthetic_run


def test_capability_stands_apart_and_guessing_does_not_count(monkeypatch, tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "runs" / "whole", latents=30, contexts=1, documents=10)
    found = capabilities(run, 0.05)
    assert int(found["at_chance"].sum()) == 1
    assert set(found.loc[found["at_chance"], "measured"]) == {"not measured"}
    n = len(found)
    said = capability.sentence(found)
    assert f"beats guessing in {n - 1} of {n} areas" in said and "made-up-quiz" in said
    text = shown(open_page(monkeypatch, tmp_path / "runs", "side_effects"))
    assert said in text and "next-token NLL" in text
    unknown = found.assign(proven=found["proven"] & (found.index > 1))
    assert "Of 2 areas the chance level is not known." in capability.sentence(unknown)
