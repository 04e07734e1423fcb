import numpy as np
import pandas as pd
import pytest
from effects_world import LATENTS, WordEncoder, decode, predict
from scipy import sparse

from mneme._util.errors import ActivationError
from mneme._util.vocabulary import (
    BY_LATENTS,
    CHANGED_INSIDE,
    DEGRADED,
    IMPROVED,
    LITTLE_TEXT,
    NOT_KNOWN,
    NOT_LOCALISED,
    UNAFFECTED,
    UNLIKE,
    UNMEASURED,
    WIDE,
)
from mneme.crosscoder.codes import CodeCache
from mneme.effects.baselines import random_steps
from mneme.effects.category_verdicts import category_verdicts
from mneme.effects.config import EffectsConfig
from mneme.effects.predict import changed_steps, effective_documents, whole_behaviour
from mneme.effects.side_effects import assign_text, predict_effects
from mneme.effects.sums import latent_steps, sum_activations, sum_codes
from mneme.effects.windows import cut_windows, per_document
from mneme.stats.bootstrap import Ratio


def run(world, taxonomy_file, **settings):
    config = EffectsConfig(taxonomy=str(taxonomy_file), window=12, **settings)
    return predict(world, config)


def test_code_sums_equal_dense_products(world):
    windows = cut_windows(world.cache, decode, 12)
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(len(windows.texts), 3)).astype(np.float32)
    steps = rng.uniform(size=(2, LATENTS))
    sums = sum_codes(CodeCache(world.codes), windows, weights, steps)
    of_row = weights[windows.row_window].astype(np.float64)
    np.testing.assert_allclose(sums.firing, of_row.T @ world.dense, rtol=1e-6)
    np.testing.assert_allclose(sums.total, world.dense.sum(0, dtype=np.float64), rtol=1e-6)
    moved = np.zeros((2, len(windows.texts)))
    for row, window in enumerate(windows.row_window):
        moved[:, window] += steps @ world.dense[row]
    np.testing.assert_allclose(sums.moved, moved, rtol=1e-6)


def test_activation_sums_equal_plain_ones(world):
    windows = cut_windows(world.cache, decode, 12)
    sums = sum_activations(world.cache, windows)
    x = world.x.astype(np.float64)
    delta = x[:, 1] - x[:, 0]
    here = windows.row_window == 4
    np.testing.assert_allclose(sums.difference[4], delta[here].sum(0))
    np.testing.assert_allclose(sums.difference_norm[4], np.linalg.norm(delta[here], axis=1).sum())
    deviation = x[:, 0] - x[:, 0].mean(0)
    np.testing.assert_allclose(sums.typical, np.sqrt((deviation**2).sum(1).mean()))


def test_steps_are_the_change_along_the_main_probe_or_the_turn(world):
    frame = world.latents
    frame.loc[1, ["norm_base", "norm_tuned", "decoder_cosine", "turned"]] = [3.0, 4.0, 0.0, True]
    frame.loc[3, ["probe", "norm_base", "beta_tuned"]] = ["base", 5.0, 0.2]
    frame.loc[4, ["beta_base", "beta_tuned"]] = [np.nan, np.nan]
    steps = latent_steps(frame)
    np.testing.assert_allclose(steps[:5], [0.5 * 2, 5.0, 0.5 * 2, 0.8 * 5, 0])


def test_redirected_latents_count_on_the_side_their_ratio_points_to(world):
    frame = world.latents
    frame.loc[3, ["verdict", "turned", "decoder_cosine", "log_ratio"]] = ["redirected", True, 0.0, -0.1]
    frame.loc[4, ["turned", "decoder_cosine"]] = [True, 0.0]  # decoders apart are no evidence of a change
    up, down = changed_steps(frame)
    assert down[3] == pytest.approx(np.sqrt(2)) and up[3] == 0
    assert np.flatnonzero(up).tolist() == [0, 2]


def test_per_document_adds_up_windows():
    weights = np.array([[1, 0], [0.5, 0.5], [0, 1]], dtype=np.float32)
    table = per_document(weights, np.array([0, 0, 1]), np.array([2.0, 4.0, 6.0])).toarray()
    np.testing.assert_allclose(table, [[4, 2], [0, 6]])


def test_the_changed_area_is_named_and_the_other_is_not(world, taxonomy_file):
    found = run(world, taxonomy_file)
    effects = found.effects.set_index("category")
    assert effects.loc["cells", "verdict"] == "degraded" and effects.loc["money", "verdict"] == "unaffected"
    typical = np.sqrt(((world.x[:, 0] - world.x[:, 0].mean(0)) ** 2).sum(1).mean())
    mean_firing = world.dense[world.about_cells, 0].mean()
    assert effects.loc["cells", "effect"] == pytest.approx(mean_firing / typical, rel=1e-4)
    assert effects.loc["cells", "nll_change"] == pytest.approx(2) and effects.loc[
        "cells", "kl"
    ] == pytest.approx(1)
    assert effects.loc["cells", "ci_low"] < effects.loc["cells", "effect"] < effects.loc["cells", "ci_high"]
    np.testing.assert_allclose(effects["amplified"] + effects["suppressed"], effects["effect"])
    assert effects.loc["cells", "shown_by"] == BY_LATENTS and pd.isna(effects.loc["money", "shown_by"])
    assert not effects["intended"].any()


def test_contributions_make_up_the_effect(world, taxonomy_file):
    found = run(world, taxonomy_file)
    total = found.effect_latents.groupby("category")["contribution"].sum()
    effects = found.effects.set_index("category")["effect"]
    np.testing.assert_allclose(total["cells"], effects["cells"])
    assert found.effect_latents.query("category == 'cells'")["latent"].tolist() == [0]


def test_latents_and_documents_find_their_areas(world, taxonomy_file):
    found = run(world, taxonomy_file)
    best = found.latent_categories.sort_values("weight").groupby("latent").last()
    assert best.loc[0, "category"] == "cells" and best.loc[1, "category"] == "money"
    assert best.loc[0, "weight"] > 0.4
    everywhere = best.loc[best.index.isin(range(3, LATENTS)), "weight"]
    assert (
        everywhere < EffectsConfig().min_weight
    ).all()  # named, with a weight that says how little it means
    of_document = found.document_categories.sort_values("weight").groupby("document").last()["category"]
    assert (of_document.to_numpy() == np.where(of_document.index % 2 == 0, "cells", "money")).all()


def test_baselines_see_the_planted_change_and_random_latents_do_not(world, taxonomy_file):
    table = run(world, taxonomy_file).baselines.pivot_table(
        index="category", columns="method", values="value"
    )
    for method in ("mean_kl", "mean_nll_change", "activation_difference_norm", "mean_difference_norm"):
        assert table.loc["cells", method] > 3 * table.loc["money", method] + 0.1, method
    assert table.loc["cells", "delta_norm_only"] > 3 * table.loc["money", "delta_norm_only"]


def test_random_steps_are_dealt_to_live_latents_only():
    steps = np.array([5.0, 0, 0, 0, 7, 0])
    live = np.array([True, True, True, True, False, True])
    dealt = random_steps(steps, live, seed=1)
    assert dealt[4] == 0 and sorted(dealt[live]) == [0, 0, 0, 0, 5]


def test_unmeasured_behaviour_gives_no_direction(world, taxonomy_file):
    for name in ("kl", "nll_base", "nll_tuned"):
        setattr(world.cache, name, np.full(world.cache.n, np.nan, dtype=np.float32))
    effects = run(world, taxonomy_file).effects.set_index("category")
    assert set(effects["direction"]) == {"none"}
    assert set(effects["verdict"]) == {NOT_KNOWN} and set(effects["reason"]) == {UNMEASURED}


def test_no_change_gives_unaffected_categories(world, taxonomy_file):
    world.latents["verdict"] = "unchanged"
    world.cache.nll_tuned = world.cache.nll_base
    found = run(world, taxonomy_file)
    assert set(found.effects["verdict"]) == {"unaffected"} and set(found.effects["direction"]) == {"none"}


def test_verdicts_rest_on_intervals():
    def ratio(rows):
        return Ratio(*np.array(rows, dtype=float).T)

    much, little, open_ = (0.5, 0.4, 0.6), (0.05, 0, 0.1), (0.5, 0.1, 0.6)
    cases = [  # affected, NLL change: verdict, reason, shown by
        (much, (1, 0.5, 2), DEGRADED, None, BY_LATENTS),
        (much, (-1, -2, -0.5), IMPROVED, None, BY_LATENTS),
        (
            much,
            (0.06, -0.1, 0.2),
            NOT_KNOWN,
            WIDE,
            None,
        ),  # its point lies beyond the margin, its interval does not
        (much, (0.02, 0.01, 0.04), CHANGED_INSIDE, None, None),
        (little, (0.02, 0.01, 0.04), UNAFFECTED, None, None),
        (little, (0.04, 0.01, 0.08), NOT_KNOWN, WIDE, None),
        (little, (1, 0.5, 2), DEGRADED, None, NOT_LOCALISED),  # words changed where no latent did
        (open_, (1, 0.5, 2), DEGRADED, None, NOT_LOCALISED),
        (open_, (0.02, 0.01, 0.04), NOT_KNOWN, WIDE, None),
    ]
    affected, nll = ratio([c[0] for c in cases]), ratio([c[1] for c in cases])
    n, enough, config = len(cases), np.full(len(cases), 10.0), EffectsConfig()
    said = category_verdicts(affected, nll, enough, enough, config)
    assert list(zip(said.verdict, said.reason, said.shown_by, strict=True)) == [c[2:] for c in cases]
    up, down = "degraded", "improved"
    assert said.direction.tolist() == [up, down, up, up, up, up, up, up, up]
    alike = category_verdicts(affected, nll, enough, enough, config, common=0.6)
    assert alike.verdict[0] == NOT_KNOWN and alike.reason[0] == UNLIKE  # (0.5, 2): all text moved by 0.6
    assert alike.verdict[4] == UNAFFECTED  # within the margin is meant absolutely
    little_more = category_verdicts(affected, ratio([(1, 0.06, 2)] * n), enough, enough, config, common=0.02)
    assert set(little_more.verdict) == {NOT_KNOWN} and set(little_more.reason) == {WIDE}
    few = np.full(n, 1.0)
    for documents, measured in ((few, enough), (enough, few)):
        short = category_verdicts(affected, nll, documents, measured, config)
        assert set(short.verdict) == {NOT_KNOWN} and set(short.reason) == {LITTLE_TEXT}
    unmeasured = category_verdicts(affected, ratio([[np.nan] * 3] * n), enough, np.zeros(n), config)
    assert set(unmeasured.reason) == {UNMEASURED} and set(unmeasured.verdict) == {NOT_KNOWN}


def test_predictions_that_moved_everywhere_are_told_though_no_latent_shows_it(world, taxonomy_file):
    world.latents["verdict"] = "unchanged"
    world.cache.nll_tuned = world.cache.nll_base + 0.2
    effects = run(world, taxonomy_file).effects
    # No category moved more than all text did; none is unaffected either.
    assert set(effects["verdict"]) == {NOT_KNOWN} and set(effects["reason"]) == {UNLIKE}
    whole = whole_behaviour(world.cache, EffectsConfig())
    assert whole.nll_change == pytest.approx((0.2, 0.2, 0.2), abs=1e-6)
    assert whole.common == pytest.approx(0.2, abs=1e-6)


def test_documents_of_unequal_weight_count_as_fewer():
    tokens = sparse.csr_array(np.array([[10.0, 100, 0], [10, 1, 0], [10, 1, 0], [10, 1, 0]]))
    assert effective_documents(tokens) == pytest.approx([4, 103**2 / 10_003, 0])


def test_codes_of_another_harvest_are_refused(world, taxonomy_file):
    config = EffectsConfig(taxonomy=str(taxonomy_file))
    few, encoder = world.latents.iloc[:3], WordEncoder()
    assigned = assign_text(world.cache, decode, encoder, config)
    with pytest.raises(ActivationError, match="3 latents, codes of 8"):
        predict_effects(world.cache, world.codes, few, world.decoder, assigned, encoder, config)
    windows = cut_windows(world.cache, decode, 12)
    short = windows._replace(row_window=windows.row_window[:-1])
    with pytest.raises(ActivationError, match="delete the codes"):
        sum_codes(CodeCache(world.codes), short, np.zeros((len(windows.texts), 1)), np.zeros((1, LATENTS)))


def test_how_a_label_is_meant_lays_it_nowhere(world, taxonomy_file):
    plain = pd.DataFrame({"latent": [5], "label": ["price"]})
    meant = pd.DataFrame({"latent": [5], "label": ["often on: price in text on"]})
    config = EffectsConfig(taxonomy=str(taxonomy_file), window=12)
    found = [predict(world, config, labels=labels).latent_categories for labels in (plain, meant)]
    pd.testing.assert_frame_equal(*found)


def test_labels_add_to_a_latents_categories(world, taxonomy_file):
    labels = pd.DataFrame({"latent": [5, 6], "label": ["price bank market", None]})
    config = EffectsConfig(taxonomy=str(taxonomy_file), window=12)
    found = predict(world, config, labels=labels)
    of = found.latent_categories.query("latent == 5")
    assert of["category"].tolist() == ["money"]
    assert of["weight"].iloc[0] == pytest.approx(config.label_weight, abs=0.05)
