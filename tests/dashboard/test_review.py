"""Reviewing on the pages: buttons, the form, undo, the queue, tables that show it."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_pages import open_page

from mneme.analyst import History
from mneme.store.queries import triage
from mneme.store.run import Run
from mneme.testing.synthetic import HOSTILE, make_synthetic_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("MNEME_ANALYST", "ann")
    return make_synthetic_run(tmp_path / "run", latents=80, contexts=4, window=12)


def press(app: AppTest, key: str) -> None:
    app.button(key=f"review_{key}").click().run()
    assert not app.exception


def test_buttons_review_and_undo(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    app = open_page(monkeypatch, run.path.parent, "latent", "run", latent="7")
    history = History(run.path)
    for key, verdict in (("1", "accept"), ("2", "reject"), ("3", "needs-work")):
        press(app, key)
        assert (history.reviews()[7].verdict, history.reviews()[7].author) == (verdict, "ann")
    press(app, "B")
    press(app, "4")
    assert (history.reviews()[7].verdict, history.reviews()[7].bookmark) == ("", True)
    press(app, "U")
    assert history.reviews()[7].verdict == "needs-work"
    assert any("Needs work" in c.value and "ann" in c.value for c in app.caption)


def test_the_form_keeps_note_tags_and_label_as_one_action(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    app = open_page(monkeypatch, run.path.parent, "latent", "run", latent="7")
    next(a for a in app.text_area if a.label == "Note").set_value("two\nlines")
    next(a for a in app.text_input if a.label == "Label of your own").set_value("my *words*")
    next(b for b in app.button if b.label == "Save").click().run()
    assert not app.exception
    review = History(run.path).reviews()[7]
    assert (review.note, review.label) == ("two\nlines", "my *words*")
    heading = next(m.value for m in app.markdown if m.value.startswith("### "))
    assert "my \\*words\\*" in heading and "edited" in heading
    press(app, "U")
    assert History(run.path).reviews() == {}


def test_tables_show_the_review_and_the_edited_label(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    worst = int(run.rows("SELECT latent FROM latents ORDER BY severity DESC NULLS LAST LIMIT 1")[0][0])
    History(run.path).add(worst, "bob", verdict="accept", label="own words", bookmark=True)
    shown = open_page(monkeypatch, run.path.parent, "latents", "run").dataframe[0].value
    row = shown[shown["latent"] == worst].iloc[0]
    assert (row["review"], row["label"]) == ("✓ accept ★", "own words ✎")


def test_the_queue_marks_unreliable_labels_but_never_an_analysts(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE labels SET score = 0.4, score_shuffled = 0.6, gain_low = -0.3")
    first = int(triage.queue(run)["latent"].iloc[0])
    History(run.path).add(first, "bob", label="own words")
    shown = open_page(monkeypatch, run.path.parent, "review", "run").dataframe[0].value
    own = shown["latent"] == first
    assert shown["label"][own].to_list() == ["own words ✎"]
    assert shown["label"][~own].str.endswith("(unreliable)").all()


def test_the_queue_drops_what_is_reviewed_and_filters(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    first = int(triage.queue(run)["latent"].iloc[0])
    app = open_page(monkeypatch, run.path.parent, "review", "run")
    assert app.dataframe[0].value["latent"].iloc[0] == first
    History(run.path).add(first, "bob", verdict="reject")
    app.run()
    assert first not in set(app.dataframe[0].value["latent"])
    app.button_group(key="reviewed").set_value("reject").run()
    assert app.dataframe[0].value["latent"].to_list() == [first]
    app.button_group(key="reviewed").set_value("accept").run()
    assert not app.dataframe and any("review state" in box.value for box in app.info)


@pytest.mark.parametrize("page", ["review", "latent", "latents"])
def test_a_damaged_file_of_reviews_stops_no_page(
    monkeypatch: pytest.MonkeyPatch, run: Run, page: str
) -> None:
    (run.path / "analyst.duckdb").write_bytes(b"not a database" * 1000)
    app = open_page(monkeypatch, run.path.parent, page, "run")
    assert app.title
    if page != "latents":
        assert any("damaged" in c.value for c in app.code)


def test_hostile_reviews_are_shown_escaped(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    text = " ".join(HOSTILE[:8])
    History(run.path).add(7, text[:40], verdict="accept", note=text, tags=[HOSTILE[0]], label=text[:140])
    app = open_page(monkeypatch, run.path.parent, "latent", "run", latent="7")
    for block in [*app.markdown, *app.caption]:
        assert "](javascript:" not in block.value and "![pixel]" not in block.value
        assert ":red[fake]" not in block.value
