"""How the positive control depends on text and size, and what it says where nothing can be found."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from power_world import Cache, lay, make_cache

from mneme._util.vocabulary import LITTLE_TEXT
from mneme.attribution.config import AttributionConfig
from mneme.attribution.stream import attribute
from mneme.crosscoder.codes import CodeCache
from mneme.effects.config import EffectsConfig
from mneme.power.behaviour import chance_told, smallest_told
from mneme.power.category import SIZES, Settings, search
from mneme.power.control import COMPETING, Power, measure_power
from mneme.power.summary import COLUMNS, overall, weakest
from mneme.run.power import margin_of, power_health
from mneme.stats.bootstrap import Ratio

DOCUMENTS = {"one": np.arange(1), "few": np.arange(1, 6), "many": np.arange(6, 86), "none": np.arange(0)}


class World:
    def __init__(self, folder: Path) -> None:
        self.cache, self.crosscoder = make_cache(120)
        self.assigned = lay(self.cache, DOCUMENTS)
        self.latents = attribute(self.crosscoder, self.cache, folder, AttributionConfig()).latents
        self.codes = CodeCache(folder)

    def power(self, margin: float, cache: Cache | None = None, **settings: int) -> Power:
        return measure_power(
            self.crosscoder,
            cache or self.cache,
            self.codes,
            self.latents,
            self.assigned,
            EffectsConfig(),
            AttributionConfig(),
            margin,
            Settings(**settings),
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("control") / "codes")


@pytest.fixture(scope="module")
def found(world: World) -> dict[float, Power]:
    return {margin: world.power(margin) for margin in (0.05, 0.4, 1.6)}


def at(power: Power, channel: str) -> pd.Series:
    table = power.table[power.table["channel"] == channel]
    return table.set_index("category")["at_margin"].astype(float)


def test_every_category_and_channel_has_a_row_and_so_has_the_run(found: dict[float, Power]) -> None:
    table = found[0.4].table
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 3 * (len(DOCUMENTS) + 1)
    assert set(table.loc[table["category"].isna(), "channel"]) == {"latents", "activations", "nll"}
    assert table["at_margin"].astype(float).between(0, 1).all()
    assert (table.loc[table["channel"] == "nll", "margin"] == EffectsConfig().nll_margin).all()


@pytest.mark.parametrize("channel", ["latents", "activations"])
def test_power_rises_with_size_and_with_text(found: dict[float, Power], channel: str) -> None:
    by_size = [at(found[margin], channel)["many"] for margin in (0.05, 0.4, 1.6)]
    assert by_size == sorted(by_size) and by_size[0] < 0.3 and by_size[-1] == 1.0
    large = at(found[1.6], channel)
    assert large["one"] == large["none"] == 0.0 <= large["few"] <= large["many"]
    # the same text, with fewer documents in the category: never more is found
    assert (
        found[1.6].table.query("category == 'many' and channel == @channel")["minimum_detectable"].item()
        <= 1.6
    )


def test_more_text_finds_smaller_changes_of_nll(found: dict[float, Power]) -> None:
    table = found[0.4].table.query("channel == 'nll'").set_index("category")
    assert table["minimum_detectable"]["many"] < table["minimum_detectable"]["few"]
    assert table["at_margin"]["many"] > table["at_margin"]["few"]
    for key in ("one", "none"):
        assert table["at_margin"][key] == 0.0 and table["reason"][key] == LITTLE_TEXT


def test_the_text_needed_is_told_where_power_lacks(found: dict[float, Power]) -> None:
    for power in found.values():
        rows = power.table[power.table["category"].notna()].astype({"at_margin": float, "text_needed": float})
        rows = rows[rows["channel"] != "activations"]
        enough = rows["at_margin"] >= 0.8
        assert (rows.loc[enough, "text_needed"] == 1).all()
        assert not (rows.loc[~enough, "text_needed"] <= 1).any()
        assert rows.loc[rows["reason"] == LITTLE_TEXT, "text_needed"].isna().all()
    small, middling, large = (
        one.table.query("channel == 'latents' and category == 'many'")["text_needed"].item()
        for one in found.values()
    )
    assert np.isnan(small)  # no latent changes by its margin, with any text
    assert middling >= 1 and large == 1
    nll = found[0.4].table.query("channel == 'nll'").set_index("category")
    few, margin = nll.loc["few"], EffectsConfig().nll_margin
    assert few["text_needed"] == pytest.approx((few["minimum_detectable"] / margin) ** 2)


def test_a_category_with_one_document_has_no_power(found: dict[float, Power]) -> None:
    rows = found[1.6].table[found[1.6].table["category"] == "one"]
    assert (rows["at_margin"].astype(float) == 0).all() and (rows["reason"] == LITTLE_TEXT).all()
    assert weakest(found[1.6].table).set_index("category")["at_margin"].astype(float)["one"] == 0.0
    assert overall(found[1.6].table)["n_categories"] == len(DOCUMENTS)


def test_predictions_that_were_not_measured_are_told(world: World) -> None:
    unmeasured = Cache(world.cache.activations, world.cache.document, np.full(world.cache.n, np.nan))
    table = (
        world.power(0.4, unmeasured, cases=1, outside=0).table.query("channel == 'nll'").set_index("category")
    )
    assert pd.isna(table["at_margin"]["many"]) and "not measured" in table["reason"]["many"]
    assert table["reason"]["one"] == LITTLE_TEXT


def test_topk_is_told_and_not_guessed(world: World) -> None:
    crosscoder = world.crosscoder
    before = crosscoder.config
    crosscoder.config = dataclasses.replace(before, variant="topk")
    try:
        table = world.power(0.4, cases=1, outside=1).table
    finally:
        crosscoder.config = before
    rows = table.query("channel == 'latents'").set_index("category")
    assert pd.isna(rows["at_margin"]["many"]) and rows["reason"]["many"] == COMPETING
    assert pd.notna(table.query("channel == 'activations'").set_index("category")["at_margin"]["many"])


def test_the_same_seed_gives_the_same_table(world: World) -> None:
    one, two = (world.power(0.4, cases=2, seed=3).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)


def test_nothing_fires_and_nothing_is_found(world: World, tmp_path: Path) -> None:
    crosscoder = world.crosscoder
    before = crosscoder.threshold.clone()
    crosscoder.threshold.fill_(1e9)
    try:
        latents = attribute(crosscoder, world.cache, tmp_path / "codes", AttributionConfig()).latents
        power = measure_power(
            crosscoder, world.cache, CodeCache(tmp_path / "codes"), latents, world.assigned, EffectsConfig(),
            AttributionConfig(), 0.4, Settings(cases=2, outside=1),
        )  # fmt: skip
    finally:
        crosscoder.threshold.copy_(before)
    assert (latents["verdict"] == "dead").all()
    assert (at(power, "latents") == 0).all()


def test_the_chance_of_a_shift_is_that_of_a_normal_error() -> None:
    nll = Ratio(
        np.array([0.3, 0.0]), np.array([0.3 - 1.96, np.nan]), np.array([0.3 + 1.96, np.nan])
    )  # spread 1
    assert chance_told(np.array([1.959964]), Ratio(*(end[:1] for end in nll)), 0.95)[0] == pytest.approx(
        0.5, abs=1e-3
    )
    # known of a two-sided test at 5%: 2.8 standard errors are found in 80%
    smallest = smallest_told(nll, 0.95)
    assert smallest[0] == pytest.approx(2.802, abs=2e-3) and np.isnan(smallest[1])
    assert np.isnan(chance_told(np.ones(2), nll, 0.95)[1])


def test_sizes_are_searched_from_the_margin() -> None:
    def from_size(least: float):
        return lambda times: 1.0 if times >= least else 0.0

    assert search(from_size(0.5)) == {1.0: 1.0, 0.5: 1.0, 0.25: 0.0}
    assert search(from_size(2.0)) == {1.0: 0.0, 2.0: 1.0}
    assert search(from_size(9.0)) == {times: 0.0 for times in SIZES if times >= 1}


def test_the_margin_is_the_size_that_costs_the_margin_of_nll() -> None:
    health = {"explained_variance_base": 0.84, "splice_nll_base": 0.16}
    config = EffectsConfig(nll_margin=0.04)
    assert margin_of(health, config, 0.5) == pytest.approx(0.4 * (0.08 / 0.16) ** 0.5)
    assert margin_of(health, config, 1.0) == pytest.approx(0.2)
    assert margin_of(health, EffectsConfig(affected_share_scale=0.9), 0.5) == 0.9
    assert margin_of({"explained_variance_base": 0.84}, config, 0.5) == 0.3


def test_health_grades_the_share_of_categories(found: dict[float, Power]) -> None:
    rows = power_health(found[1.6]).set_index("metric")
    assert rows["value"]["power"] == overall(found[1.6].table)["share"]
    assert rows["status"]["power"] == "warn" and rows["advice"]["power"]
    assert rows["status"]["power_latents"] == "info"


def test_what_was_not_measured_has_no_row_in_health(found: dict[float, Power]) -> None:
    table = found[0.4].table
    unmeasured = table.assign(at_margin=table["at_margin"].where(table["channel"] != "nll"))
    rows = power_health(Power(unmeasured, float("nan"))).set_index("metric")
    assert list(rows.index) == ["power", "power_latents", "power_activations"]
    assert np.isfinite(rows["value"]).all() and "fail" not in set(rows["status"])
    assert rows["value"]["power"] == 0.0
    assert len(power_health(Power(table.iloc[:0], float("nan")))) == 0
