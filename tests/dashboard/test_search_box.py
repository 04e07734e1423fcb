"""The search box: own labels, review states, full text with the piece that matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_pages import open_page

from mneme.analyst import History
from mneme.search import build_index, find_text
from mneme.store.synthetic import make_synthetic_run


def test_an_own_label_is_found_and_review_states_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60)
    History(run.path).add(7, "me", label="Quokka words", verdict="accept")
    History(run.path).add(9, "me", verdict="reject", bookmark=True)
    app = open_page(monkeypatch, tmp_path, "latents", "run")
    everything = len(app.dataframe[0].value)

    def listed(**widgets: Any) -> list[int]:
        app.text_input(key="find").set_value(widgets.get("find", ""))
        app.button_group(key="said").set_value(widgets.get("said", []))
        app.run()
        assert not app.exception
        return sorted(app.dataframe[0].value["latent"])

    assert listed(find="quokka") == [7]
    assert listed(said=["accept"]) == [7]
    assert listed(said=["reject", "bookmark"]) == [9]
    assert len(listed(said=["to do"])) == everything - 2


def test_a_search_in_contexts_makes_its_index_and_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60)
    build_index(run)
    app = open_page(monkeypatch, tmp_path, "latents", "run")
    app.selectbox(key="in").set_value("contexts")
    app.text_input(key="find").set_value("virus").run()
    assert not app.exception
    shown = app.dataframe[0].value
    assert shown["latent"].tolist() == find_text(run, "virus")
    assert shown["match"].str.contains("«virus").any()
