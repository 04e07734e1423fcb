"""What decides something is a plain function: gestures, ranges, text, numbers, requests, figures."""

from __future__ import annotations

import shutil

import duckdb
import numpy as np
import pandas as pd
import pytest

from dashboard.components import betas, charts, effect_charts, jobs, plots, tokens, words
from dashboard.components.selection import Gesture, read_gesture, read_ranges, write_ranges
from mneme.store.queries import effects
from mneme.store.queries import latent as latent_queries
from mneme.store.queries import latents as queries
from mneme.store.queries.latents import LatentFilter
from mneme.store.run import open_run
from mneme.testing.synthetic import HOSTILE

BOX = {"box": [{"x": [0.4, 0.1], "y": [1, 0]}], "points": [{"customdata": 3}]}


def test_a_box_wins_over_the_points_in_it() -> None:
    assert read_gesture(BOX, "beta_base", "beta_tuned") == Gesture(
        {"beta_base": (0.1, 0.4), "beta_tuned": (0.0, 1.0)}, None
    )


def test_a_box_on_a_histogram_bounds_one_axis() -> None:
    assert read_gesture(BOX, "delta_norm", None).ranges == {"delta_norm": (0.1, 0.4)}


@pytest.mark.parametrize("data", [7, [7], 7.0])
def test_one_point_opens_its_latent(data: object) -> None:
    assert read_gesture({"points": [{"customdata": data}]}, "umap_x", "umap_y").latent == 7


@pytest.mark.parametrize(
    "selection", [None, {}, {"points": []}, {"points": [{"customdata": "x"}]}, {"box": [{"x": ["a", None]}]}]
)
def test_what_is_no_gesture_does_nothing(selection: dict | None) -> None:
    assert read_gesture(selection, "umap_x", "umap_y") == Gesture({}, None)


def test_ranges_survive_their_text() -> None:
    ranges = {"delta_norm": (0.25, 0.5), "umap_x": (-3.5, 1e-4)}
    assert read_ranges(write_ranges(ranges)) == ranges


@pytest.mark.parametrize("text", [None, "", "delta_norm", "verdict 0..1", "delta_norm a..b", "x 1..2; --"])
def test_what_is_no_range_is_left_out(text: str | None) -> None:
    assert read_ranges(text) == {}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_becomes_one_short_harmless_line(text: str) -> None:
    assert len(words.plain(text)) <= 80
    assert not set(words.plain(text)) & set("\n\t\x00\x1b\u202e\u200b\u200d\ufeff")
    assert "<" not in words.html(text) and '"' not in words.html(text)
    escaped = words.markdown(text).replace("\\\\", "")
    for character in "[]<>`*$:_!":
        assert escaped.count(character) == escaped.count("\\" + character)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0, "0"), (0.01234, "0.0123"), (-1.5, "−1.50"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_a_token_cannot_leave_its_tag() -> None:
    context = {
        "document": 0, "position": 3, "start": 3, "split": "test", "topic": HOSTILE[0],
        "tokens": HOSTILE, "activations": [1.0] * len(HOSTILE), "kl": None, "nll_change": [None] * len(HOSTILE),
    }  # fmt: skip
    for colouring in tokens.COLOURINGS:
        html = tokens.contexts_html([context], colouring).removeprefix(tokens._STYLE)
        assert html.count("<span") == len(HOSTILE) == html.count("</span>")
        assert "<script" not in html and "<img" not in html and 'onload="' not in html


def test_a_context_says_on_how_many_tokens_behaviour_was_measured() -> None:
    context = {
        "tokens": ["a", "b", "c"], "activations": [1.0, 0.0, 2.0], "kl": [0.5, None, float("nan")],
        "nll_change": [None] * 3, "document": 1, "position": 2, "start": 0, "split": "test", "topic": None,
    }  # fmt: skip
    said = {name: tokens.contexts_html([context], name) for name in tokens.COLOURINGS}
    assert "measured on 1 of 3 tokens" in said["kl"] and "not measured here" in said["nll_change"]
    assert "measured" not in said["activation"]


def test_figures_are_byte_stable_and_small(runs) -> None:  # type: ignore[no-untyped-def]
    run = open_run(runs / "whole")
    points = queries.points(run, LatentFilter(), "beta_base", "beta_tuned")
    made = [
        charts.verdict_scatter(
            points, axes=("beta_base", "beta_tuned"), titles=("x", "y"), bounds=(0, 1, 0, 1), boxes={}
        ).to_json()
        for _ in range(2)
    ]
    assert made[0] == made[1]
    many = pd.DataFrame(
        {"latent": np.arange(30_000), "x": np.float32(0.5), "y": np.float32(0.5), "verdict": "unchanged"}
    )
    figure = charts.verdict_scatter(many, axes=("a", "b"), titles=("x", "y"), bounds=(0, 1, 0, 1), boxes={})
    assert len(figure.to_json()) < 600_000


def test_the_filter_agrees_with_pandas(runs) -> None:  # type: ignore[no-untyped-def]
    run = open_run(runs / "whole")
    frame = run.sql("SELECT * FROM latents")
    where = LatentFilter(
        verdicts=("amplified", "suppressed"), q_max=0.05, rate_min=1e-3, boxes={"delta_norm": (0.2, 0.9)}
    )
    expected = frame[
        frame["verdict"].isin(where.verdicts)
        & (frame["q_value"] <= 0.05)
        & (frame["firing_rate"] >= 1e-3)
        & frame["delta_norm"].between(0.2, 0.9)
    ].sort_values("severity", ascending=False)
    assert queries.count(run, where) == len(expected) > 3
    assert queries.table(run, where)["latent"].tolist() == expected["latent"].tolist()
    numbers = expected["latent"].tolist()
    place = queries.beside(run, where, numbers[1])
    assert place == {"previous": numbers[0], "next": numbers[2], "place": 2, "of": len(numbers)}
    histogram = queries.norm_histogram(run, where)
    assert histogram["n"].sum() == len(expected)


def test_requests_stay_inside_the_runs_folder(runs) -> None:  # type: ignore[no-untyped-def]
    good = jobs.Request("mine", "bundled:base", "org/model", "bundled", None, 64, 8, None, "")
    assert jobs.problem_with(runs, good) is None
    for change in (
        {"name": "../out"},
        {"name": ""},
        {"name": "a/b"},
        {"base": "/etc"},
        {"tuned": "../../etc"},
        {"tuned": ""},
        {"corpus": "/etc/passwd"},
        {"corpus": "../x.txt"},
        {"load": "../../secret"},
        {"k": 64},
    ):
        assert jobs.problem_with(runs, good._replace(**change)) is not None, change


def test_a_threshold_is_told_in_the_unit_of_its_value() -> None:
    assert words.threshold("warn > 0.1, fail > 0.15", share=True) == "warn > 10 %, fail > 15 %"
    assert words.threshold("warn > 0.25", share=False) == "warn > 0.25"


def test_the_histogram_draws_what_the_query_says(runs) -> None:  # type: ignore[no-untyped-def]
    counts = queries.norm_histogram(open_run(runs / "whole"), LatentFilter())
    drawn = {bar.name.split()[-1]: int(np.nansum(bar.y)) for bar in charts.norm_histogram(counts, {}).data}
    assert drawn == counts.groupby("verdict")["n"].sum().to_dict()


def test_a_bar_of_an_area_tells_its_row(runs) -> None:  # type: ignore[no-untyped-def]
    found = effects.effects(open_run(runs / "whole")).head(7)
    figure = effect_charts.effect_bars(found, height=200)
    told = {int(row): float(x) for bar in figure.data for row, x in zip(bar.customdata, bar.x, strict=True)}
    assert told == {i: np.float32(effect) for i, effect in enumerate(found["effect"])}


def test_a_run_without_a_changed_latent_still_shows_where_all_of_them_lie(runs, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = shutil.copytree(runs / "whole", tmp_path / "calm")
    with duckdb.connect(folder / "run.duckdb") as connection:
        connection.execute("UPDATE latents SET verdict = 'unchanged' WHERE verdict <> 'dead'")
    run = open_run(folder)
    data = plots.scatter_data(run, LatentFilter(), "beta_base", "beta_tuned", 50)
    assert data is not None
    points, density, _ = data
    assert points.empty and density is not None
    live = queries.count(run, LatentFilter(verdicts=("unchanged",)))
    assert 0.97 * live <= density.sum() <= live  # the span leaves out the outermost few
    figure = charts.verdict_scatter(
        points, axes=("a", "b"), titles=("x", "y"), bounds=data[2], boxes={}, density=density
    )
    assert [trace.type for trace in figure.data] == ["heatmap"]
    assert plots.scatter_data(run, LatentFilter(q_max=-1.0), "beta_base", "beta_tuned", 50) is None


def test_every_beta_has_its_interval_and_the_judged_ones_stand_out(runs) -> None:  # type: ignore[no-untyped-def]
    run = open_run(runs / "whole")
    latent = latent_queries.most_severe(run)
    assert latent is not None
    row, found = latent_queries.row(run, latent), latent_queries.betas(run, latent)
    assert row is not None and len(found) == 6
    for turned, bold in ((False, {row["probe"]}), (True, {"base", "tuned"})):
        html = betas.html(found, {**row, "turned": turned})
        assert html.count("<small>") == 12 and html.count("<b>") == 2
        lines = [line for line in html.split("<tr>") if "<b>" in line]
        assert all("<td>error</td>" in line for line in lines)
        assert {p for p in ("base", "tuned") if any(f"<td>{p}" in line for line in lines)} == bold
    one = found.assign(base_low=np.nan)  # of a run older than most intervals
    assert betas.html(one, row).count("<small>") == 6
