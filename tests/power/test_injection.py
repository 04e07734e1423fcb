"""What the sums say of an injection, against really adding it to the activations and doing all of it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from power_world import LENGTH, Cache, lay, make_cache

from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.stream import Attribution, attribute
from mneme.crosscoder.codes import CodeCache
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import directions, hold_windows
from mneme.effects.predict import affected_share_of, changed_steps, saturated
from mneme.effects.side_effects import Assigned
from mneme.power.calls import Caller, affected_shares, caller, p_of
from mneme.power.category import choose
from mneme.power.inject import Dictionary, Injection, Text, outside, read_text
from mneme.power.sums import KeptSums, keep_sums
from mneme.stats.bootstrap import Ratio

# no latents are solved jointly: the control judges each by itself
CONFIG, EFFECTS = AttributionConfig(coupling=1.0), EffectsConfig()
MINE = np.arange(0, 40)


class World:
    """A pair without changes, attributed; category `a` has the first 40 of 80 documents."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.crosscoder = make_cache(80)
        self.assigned = lay(self.cache, {"a": MINE})
        self.found = attribute(self.crosscoder, self.cache, folder / "codes", CONFIG)
        self.codes = CodeCache(folder / "codes")
        geometry = make_geometry(self.crosscoder)
        self.kept: KeptSums = keep_sums(geometry, self.cache, self.codes, self.assigned.windows, MINE)
        self.dictionary = Dictionary(self.crosscoder, geometry)
        chosen = choose(self.assigned.weights[:, 0], self.assigned.windows, 10**6, np.random.default_rng(0))
        self.text: Text = read_text(self.dictionary, self.cache, self.kept, chosen.row)
        called = self.found.latents["verdict"].isin(("amplified", "suppressed")).to_numpy()
        self.caller: Caller = caller(self.kept.moments, called, CONFIG)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("power"))


def really(world: World, part: np.ndarray, vector: np.ndarray, folder: Path) -> tuple[Cache, Attribution]:
    """The vector added to every token of the documents, and all attributed again with the same dictionary."""
    row = np.flatnonzero(np.isin(world.cache.document, part))
    cache = world.cache.displaced(row, vector)
    return cache, attribute(world.crosscoder, cache, folder, CONFIG)


def direction_of(world: World, kind: str) -> np.ndarray:
    if kind == "decoder":
        return world.dictionary.directions[int(world.found.latents["n_active"].idxmax())].astype(np.float64)
    return outside(world.dictionary.directions[:8], 1, np.random.default_rng(1))[0]


def test_the_sums_kept_are_those_of_attribution(world: World) -> None:
    log_ratio = world.kept.moments.log_ratio()
    np.testing.assert_allclose(log_ratio, world.found.latents["log_ratio"], atol=1e-5)
    base = world.cache.activations[:, 0].double()
    typical = (base - base.mean(0)).square().sum(1).mean().sqrt()
    assert world.kept.typical == pytest.approx(float(typical), rel=1e-5)


@pytest.mark.parametrize("kind", ["decoder", "outside"])
@pytest.mark.parametrize("size", [0.0, 0.3, 1.0, 3.0])
def test_the_sums_answer_what_adding_the_displacement_answers(
    world: World, tmp_path: Path, kind: str, size: float
) -> None:
    direction, raw = direction_of(world, kind), size * world.kept.typical
    part = MINE[::2]
    everything = np.arange(world.crosscoder.n_latents)
    injection = Injection(world.dictionary, world.kept, world.text, part, direction, everything)
    injected = injection.at(raw)
    cache, truth = really(world, part, raw * direction, tmp_path / "codes")
    latents = truth.latents
    np.testing.assert_array_equal(injected.moments.n, latents["n_documents"])
    np.testing.assert_allclose(injected.moments.log_ratio(), latents["log_ratio"], atol=2e-4)
    # the share of latents' that most share may move with a large injection; the control keeps the run's
    judge = world.caller._replace(reference=truth.reference)
    p_values = p_of(injected.moments, CONFIG.margin, truth.reference)
    np.testing.assert_allclose(p_values, latents["p_value"], atol=1e-4)
    verdict = judge.judged(injection, injected)
    assert verdict.tolist() == latents["verdict"].tolist()

    # the category: affected share from what the latents called tell, with its interval
    said = directions(latents, changed_steps(latents).sum(0), world.crosscoder.raw_decoder())
    held = hold_windows(cache, CodeCache(tmp_path / "codes"), world.assigned.windows, said)
    affected = affected_share_of(
        world.assigned.weights, world.assigned.windows, held.confirmed, world.kept.typical, EFFECTS
    )
    confirmed = judge.confirmed(injection, world.text, raw, world.assigned.windows)
    weight, windows = world.assigned.weights[:, 0], world.assigned.windows
    touched = saturated(
        confirmed / world.kept.typical, windows.n_rows.astype(float), EFFECTS.affected_share_scale
    )
    found = affected_shares(weight, windows, touched[:, None], EFFECTS)
    for name in ("value", "low", "high"):
        assert getattr(found, name)[0] == pytest.approx(getattr(affected, name)[0], abs=1e-3)
    if size == 0.0:
        assert not confirmed.any()
    if kind == "decoder" and size >= 1.0:  # so the comparison is of something that was called
        assert found.low[0] > EFFECTS.min_affected_share


def test_what_is_displaced_in_documents_that_training_read_is_no_evidence(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.arange(80) % 4 < 2
    monkeypatch.setattr("mneme.attribution.stream.evidence_documents", lambda *_: counts)
    geometry, windows = world.dictionary.geometry, world.assigned.windows
    kept = keep_sums(geometry, world.cache, world.codes, windows, MINE, counts)
    direction, raw, part = direction_of(world, "decoder"), world.kept.typical, MINE[::3]
    injection = Injection(
        world.dictionary, kept, world.text, part, direction, np.arange(world.crosscoder.n_latents)
    )
    injected = injection.at(raw)
    latents = really(world, part, raw * direction, tmp_path / "codes")[1].latents
    np.testing.assert_array_equal(injected.moments.n, latents["n_documents"])
    np.testing.assert_allclose(injected.moments.log_ratio(), latents["log_ratio"], atol=2e-4)
    assert latents["n_documents"].max() <= 40


def test_the_latents_that_answer_most_decide_as_all_of_them_do(world: World) -> None:
    direction, raw = direction_of(world, "decoder"), world.kept.typical
    few = world.dictionary.answering(direction, 12)
    assert len(few) == 12
    for size in (0.3 * raw, raw):
        found = [
            world.caller.confirmed(
                Injection(world.dictionary, world.kept, world.text, MINE[::2], direction, latents),
                world.text,
                size,
                world.assigned.windows,
            )
            for latents in (few, np.arange(world.crosscoder.n_latents))
        ]
        assert found[0].sum() == pytest.approx(found[1].sum(), rel=0.15)


def test_documents_that_stand_for_others_weigh_as_those_would(tmp_path: Path) -> None:
    """Each document three times over, against one of three that stands for three."""
    cache, crosscoder = make_cache(12)
    three = Cache(
        cache.activations.repeat(3, 1, 1),
        np.repeat(np.arange(36), LENGTH),
        np.tile(cache.nll_tuned, 3),
    )
    assigned = lay(three, {"a": np.arange(36)})
    attribute(crosscoder, three, tmp_path / "codes", CONFIG)
    geometry = make_geometry(crosscoder)
    kept = keep_sums(geometry, three, CodeCache(tmp_path / "codes"), assigned.windows, np.arange(36))
    dictionary = Dictionary(crosscoder, geometry)
    direction = dictionary.directions[3].astype(np.float64)
    latents = np.arange(crosscoder.n_latents)

    def injected(documents: np.ndarray, times: float) -> np.ndarray:
        text = read_text(dictionary, three, kept, np.flatnonzero(np.isin(three.document, documents)))
        return Injection(dictionary, kept, text, documents, direction, latents, times).at(5.0).moments.totals

    whole = np.concatenate([np.arange(4), np.arange(12, 16), np.arange(24, 28)])
    np.testing.assert_allclose(injected(np.arange(4), 3.0), injected(whole, 1.0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [0.1, 0.2, 0.4])
def test_twice_the_text_is_judged_as_every_document_twice_is(
    world: World, tmp_path: Path, size: float
) -> None:
    n = world.cache.n_documents
    twice = Cache(
        world.cache.activations.repeat(2, 1, 1),
        np.repeat(np.arange(2 * n), LENGTH),
        np.tile(world.cache.nll_tuned, 2),
    )
    both = np.concatenate([MINE, MINE + n])
    assigned = lay(twice, {"a": both})
    found = attribute(world.crosscoder, twice, tmp_path / "codes", CONFIG)
    kept = keep_sums(
        world.dictionary.geometry, twice, CodeCache(tmp_path / "codes"), assigned.windows, np.arange(2 * n)
    )
    text = read_text(world.dictionary, twice, kept, np.flatnonzero(np.isin(twice.document, both)))
    called = found.latents["verdict"].isin(("amplified", "suppressed")).to_numpy()
    direction, raw = direction_of(world, "decoder"), size * world.kept.typical
    everything, part = np.arange(world.crosscoder.n_latents), MINE[::2]

    really = Injection(world.dictionary, kept, text, np.concatenate([part, part + n]), direction, everything)
    truth = caller(kept.moments, called, CONFIG)
    once = Injection(world.dictionary, world.kept, world.text, part, direction, everything)
    said = caller(world.kept.moments, world.caller.called, CONFIG, text=2.0)
    assert said.judged(once, once.at(raw)).tolist() == truth.judged(really, really.at(raw)).tolist()
    np.testing.assert_array_equal(said.called, truth.called)

    def affected(judge: Caller, injection: Injection, read: Text, where: Assigned, times: float) -> Ratio:
        told = judge.confirmed(injection, read, raw, where.windows) / world.kept.typical
        touched = saturated(told, where.windows.n_rows.astype(float), EFFECTS.affected_share_scale)
        return affected_shares(where.weights[:, 0], where.windows, touched[:, None], EFFECTS, times)

    one, two = (
        affected(said, once, world.text, world.assigned, 2.0),
        affected(truth, really, text, assigned, 1.0),
    )
    assert one.value[0] == pytest.approx(two.value[0], rel=1e-3)
    assert one.high[0] - one.low[0] == pytest.approx(two.high[0] - two.low[0], rel=0.2)


def test_a_crosscoder_of_another_harvest_is_refused(world: World) -> None:
    from mneme._util.errors import ActivationError

    short = Cache(world.cache.activations[:64], world.cache.document[:64], world.cache.nll_tuned[:64])
    with pytest.raises(ActivationError, match="another harvest"):
        keep_sums(world.dictionary.geometry, short, world.codes, world.assigned.windows, MINE)


def test_directions_outside_a_span_are_orthogonal_to_it() -> None:
    active = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
    found = outside(active, 4, np.random.default_rng(1))
    assert np.abs(found @ active.T).max() < 1e-5
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
