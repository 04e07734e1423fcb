"""Matching dictionaries, null pairs, and health rows."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import mneme.attribution.stability as stability_module
from mneme.attribution.config import AttributionConfig
from mneme.attribution.health import attribution_health
from mneme.attribution.health_row import health_row
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.nulls import (
    calibrated,
    null_row,
    rounding_null,
    shuffled_null,
    side_effect_found,
)
from mneme.attribution.stability import (
    match_latents,
    pw_mcc,
    stability,
    verdict_persistence,
)
from mneme.attribution.stream import attribute
from mneme.run.post_label_health import label_overlap_health, null_health, stability_health


def dictionary(F=30, d=10, seed=0):
    g = torch.Generator().manual_seed(seed)
    decoder = torch.randn(2, F, d, generator=g)
    return SimpleNamespace(W_dec=decoder, W_enc=decoder.transpose(1, 2).contiguous())


def shuffled(one, order, noise=0.0):
    g = torch.Generator().manual_seed(9)
    decoder = one.W_dec[:, order] + noise * torch.randn(one.W_dec.shape, generator=g)
    return SimpleNamespace(W_dec=decoder, W_enc=decoder.transpose(1, 2).contiguous())


@pytest.mark.parametrize("limit", [6000, 5])
def test_a_shuffled_dictionary_is_matched_exactly(monkeypatch, limit):
    monkeypatch.setattr(stability_module, "_DENSE_LIMIT", limit)
    one = dictionary()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    match = match_latents(one, shuffled(one, order, noise=0.05))
    assert (order[match.partner].numpy() == np.arange(30)).all()
    assert match.persists.all() and pw_mcc(match, np.ones(30)) > 0.98


def test_unrelated_dictionaries_do_not_persist():
    match = match_latents(dictionary(d=64), dictionary(d=64, seed=5))
    assert match.persists.sum() == 0 and abs(pw_mcc(match, np.ones(30))) < 0.4


def test_a_latent_whose_encoder_differs_is_not_found_again():
    one = dictionary()
    other = shuffled(one, torch.arange(30))
    other.W_enc = other.W_enc.clone()
    other.W_enc[:, :, 4] *= -1
    assert not match_latents(one, other).persists[4]


def test_dead_latents_stay_unmatched():
    live = np.arange(30) != 3
    match = match_latents(dictionary(), dictionary(), live)
    assert match.partner[3] == -1 and np.isnan(match.decoder_cosine[3]) and match.persists.sum() == 29


def test_stability_is_the_share_of_seeds():
    one = dictionary(d=64)
    assert (stability(one, [one, dictionary(d=64, seed=3)]) == 0.5).all()
    assert np.isnan(stability(one, [])).all()


def test_verdicts_persist_only_with_the_same_word():
    one = dictionary(F=4)
    match = match_latents(one, one)
    verdict = np.array(["amplified", "amplified", "unchanged", "dead"])
    other = np.array(["amplified", "unchanged", "unchanged", "dead"])
    assert verdict_persistence(verdict, other, match) == {"amplified": 0.5, "unchanged": 1.0}


def test_weights_decide_pw_mcc():
    match = stability_module.LatentMatch(np.array([0, 1]), np.ones(2), np.array([1.0, 0.0]))
    assert pw_mcc(match, np.array([3.0, 1.0])) == pytest.approx(0.75)
    assert np.isnan(pw_mcc(match, np.zeros(2)))


def pair_cache(n=3000, d=12):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, d, generator=g)
    return MemoryCache(x, np.arange(n) // 30)


def test_rounding_null_is_the_base_within_rounding():
    cache = pair_cache()
    null = rounding_null(cache)
    base, again = null.activations.unbind(1)
    assert torch.equal(base, cache.activations[:, 0])
    assert 0 < (base - again).abs().max() < 0.05 and (null.position == cache.position).all()


def test_shuffled_pairs_are_no_change_even_where_the_pair_changed(make_crosscoder):
    crosscoder = make_crosscoder(dtype=torch.float32, d=12, F=24)
    crosscoder.decoder[1] = 2 * crosscoder.decoder[0]
    crosscoder.encoder[1] = crosscoder.encoder[0]
    g = torch.Generator().manual_seed(0)
    f = torch.rand(3000, 24, generator=g) * (torch.rand(3000, 24, generator=g) < 0.1)
    x = torch.einsum("bf,mfd->bmd", f, crosscoder.decoder) + crosscoder.bias
    cache = MemoryCache(x + 0.05 * torch.randn(x.shape, generator=g), np.arange(3000) // 30)
    config = AttributionConfig(common_scale=False)
    assert (attribute(crosscoder, cache, None, config).latents.verdict == "amplified").mean() > 0.9
    row = shuffled_null(crosscoder, cache, config).iloc[0]
    assert row.n == 24 and row.n_false <= 1 and np.isnan(row.margin)


def test_a_null_pair_gives_no_side_effect(make_crosscoder):
    crosscoder = make_crosscoder(dtype=torch.float32, d=12, F=24)
    crosscoder.decoder[1] = crosscoder.decoder[0]
    crosscoder.encoder[1] = crosscoder.encoder[0]
    crosscoder.bias[1] = crosscoder.bias[0]
    null = rounding_null(pair_cache())
    found = attribute(crosscoder, null, None)
    row = null_row("rounding", found, AttributionConfig()).iloc[0]
    assert row.n == 24 and row.n_false == 0 and row.rate == 0 and row.ci_high < 0.15 and row.margin < 0.02
    assert not side_effect_found(found.latents)


def test_called_latents_are_a_side_effect_unless_nulls_give_as_many():
    latents = pd.DataFrame({"verdict": ["amplified"] * 6 + ["unchanged"] * 94})
    assert side_effect_found(latents) and not side_effect_found(latents, null_rate=0.05)
    assert side_effect_found(latents, null_rate=0.01)


def test_a_null_asks_for_the_margin_its_intervals_clear():
    latents = pd.DataFrame(
        {
            "verdict": ["unchanged"] * 18 + ["uncertain", "dead"],
            "ci_low": [-0.1] * 18 + [0.4, np.nan],
            "ci_high": [0.1] * 18 + [0.6, np.nan],
            "log_ratio": [0.0] * 18 + [0.5, np.nan],
            "n_documents": [9] * 19 + [0],
        }
    )
    found = SimpleNamespace(latents=latents, reference=0.1)
    assert null_row("n", found, AttributionConfig(level=0.5)).margin[0] == 0
    assert null_row("n", found, AttributionConfig(level=0.999)).margin[0] == pytest.approx(0.3, abs=0.01)


def test_a_threshold_is_what_the_worst_null_asks_for():
    asked = pd.Series([0.05, 0.31, np.nan])
    assert calibrated(asked, 0.2) == 0.31 and calibrated(asked[:1], 0.2) == 0.2
    assert calibrated(asked[2:], 0.2) == 0.2


def test_grades_follow_their_limits():
    words = [
        health_row("m", "t", v, "u", "do", warn=0.1, fail=0.15)["status"] for v in (0.1, 0.12, 0.2, None)
    ]
    assert words == ["ok", "warn", "fail", "info"]
    low = [health_row("m", "t", v, "u", "do", warn=0.4, low_is_bad=True)["status"] for v in (0.5, 0.3)]
    assert low == ["ok", "warn"] and health_row("m", "t", 0.2, "u", "do", fail=0.15)["advice"] == "do"
    assert label_overlap_health(0.39).status[0] == "warn" and label_overlap_health(0.41).status[0] == "ok"
    assert list(null_health(0.01, (0.2, 0.2), (0.125, 0.125)).status) == ["ok"] * 3
    over = null_health(0.06, (0.3, 0.2), (0.2004, 0.125))
    assert list(over.status) == ["warn"] * 3
    assert "effects.min_affected_share=0.201" in over.advice[2]  # rounded up: asked for again, it is enough


@pytest.mark.parametrize("limits", [{}, {"warn": 0.1}, {"fail": 0.1, "low_is_bad": True}])
def test_a_figure_that_is_not_a_number_is_a_failed_check(limits):
    found = health_row("m", "t", np.nan, "u", "do", **limits)
    assert found["status"] == "fail" and "not a number" in found["advice"]
    nothing = health_row("m", "t", None, "u", "do", **limits)
    assert nothing["status"] == "info" and np.isnan(nothing["value"]) and nothing["advice"] == ""


def test_a_figure_that_is_infinite_is_beyond_its_limit():
    assert health_row("m", "t", np.inf, "u", "do", warn=0.1, fail=0.2)["status"] == "fail"
    assert health_row("m", "t", -np.inf, "u", "do", fail=0.2, low_is_bad=True)["status"] == "fail"


def test_what_other_dictionaries_find_again_is_graded():
    good = dict.fromkeys(("latents", "changed", "resampled", "overlap", "r2", "pw_mcc", "categories"), 0.85)
    found = stability_health(good, 3, 1)
    assert set(found.status) == {"ok"} and "3 independent starts" in found.unit[0]
    assert set(stability_health(dict.fromkeys(good, 0.2), 3, 1).status) == {"warn"}
    unknown = stability_health({name: np.nan for name in good if name != "categories"}, 1, 0)
    assert set(unknown.status) == {"info"} and unknown["value"].isna().all()


def test_health_sees_dead_latents_and_a_wrong_normaliser(make_crosscoder):
    crosscoder = make_crosscoder(dtype=torch.float32, d=12, F=24)
    crosscoder.encoder[:, :, :6] = 0
    cache = pair_cache()
    cache.n_skipped_sinks, cache.n_skipped_bos, cache.n_documents = 5, 100, 100
    cache.activations = cache.activations * 3
    health = attribution_health(attribute(crosscoder, cache, None), cache, k=8).set_index("metric")
    assert health.value["dead_share"] == 0.25 and health.status["dead_share"] == "fail"
    assert "fewer latents" in health.advice["dead_share"]
    assert health.status["normaliser"] == "fail" and health.value["sink_share"] == pytest.approx(5 / 3005)
    assert health.status["empty_documents"] == "ok" and health.value["l0_topk"] == 8
    assert set(health.status) <= {"ok", "warn", "fail", "info"}
