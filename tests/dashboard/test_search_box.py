"""The search box: own labels, review states, full text with the piece that matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_pages import open_page

from dashboard.components import theme
from mneme.analyst import History
from mneme.search import build_index, find_text
from mneme.store.queries.latent import flags
from mneme.store.queries.latents import FLAGS
from mneme.testing.synthetic import make_synthetic_run


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


def test_a_link_to_a_search_without_an_order_lists_the_best_match_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60)
    build_index(run)
    link: dict[str, str] = {"find": "virus", "in": "contexts"}
    app = open_page(monkeypatch, tmp_path, "latents", "run", **link)
    assert app.dataframe[0].value["latent"].tolist() == find_text(run, "virus")
    app = open_page(monkeypatch, tmp_path, "latents", "run", **link, sort="Number")
    assert app.dataframe[0].value["latent"].tolist() == sorted(find_text(run, "virus"))


def test_every_flag_is_a_filter_and_a_badge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60)
    rows = run.sql("SELECT * FROM latents ORDER BY latent").assign(
        turned=False, dense=False, dead=False, position_bound=False, split_half_base=0.0
    )
    rows["split_half_tuned"] = 0.4 * rows[["beta_base", "beta_tuned"]].abs().max(axis=1)
    labels = run.sql("SELECT * FROM labels ORDER BY latent").assign(
        score=0.9, score_shuffled=0.5, gain_low=0.1
    )
    flagged = {
        "turned": 3,
        "dense": 4,
        "dead": 5,
        "position bound": 6,
        "unstable": 7,
        "unreliable label": 8,
    }
    for name in ("turned", "dense", "dead", "position_bound"):
        rows.loc[flagged[name.replace("_", " ")], name] = True
    rows.loc[7, ["split_half_tuned", "beta_base", "beta_tuned"]] = 0.6, 1.0, 1.0
    labels.loc[labels["latent"] == 8, "gain_low"] = -0.1
    with run.stage_writer() as writer:
        writer.replace("latents", rows)
        writer.replace("labels", labels)
    assert set(flagged) == set(FLAGS) == set(theme.FLAGS)
    for flag, latent in flagged.items():
        assert flags(run, latent) == [flag]
        app = open_page(monkeypatch, tmp_path, "latents", "run", flag=flag)
        assert app.dataframe[0].value["latent"].tolist() == [latent]
    History(run.path).add(8, "me", label="a name of my own")
    app = open_page(monkeypatch, tmp_path, "latents", "run", flag="unreliable label")
    assert not app.dataframe, "the unreliable label is not the one that holds"
