import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from mneme.effects.baseline_summary import baseline_summary
from mneme.effects.config import EffectsConfig
from mneme.effects.evaluate import degraded_outcomes, evaluate, flag_metric, open_outcomes
from mneme.effects.selective import calls_by_confidence, precision_of_surest

N = 20
KEYS = [f"c{i}" for i in range(N)]
CONFIG = EffectsConfig(replicates=100, intended=("c19", "c18"))


def tables(seed=0, noise=0.0):
    """Outcomes rise with the index, the last eight degraded; the prediction is the truth plus noise."""
    rng = np.random.default_rng(seed)
    change = np.linspace(-0.02, 0.02, N)
    change[12:] = np.linspace(0.2, 3, 8)
    outcomes = pd.DataFrame({"category": KEYS, "change": change, "ci_low": change - 0.01})
    effect = change + 0.1 + noise * rng.normal(size=N)
    effects = pd.DataFrame({"category": KEYS, "effect": effect, "affected_share": effect})
    effects["verdict"] = np.where(change > 0.1, "degraded", "unaffected")
    effects["direction"] = np.where(change > 0.1, "degraded", "none")
    weak = pd.DataFrame({"category": KEYS, "method": "weak", "value": rng.normal(size=N)})
    return effects, weak, outcomes


def value(table, method, metric, subset="all"):
    rows = table.query("method == @method and metric == @metric and subset == @subset")
    assert len(rows) == 1
    return rows.iloc[0]


def test_metrics_equal_scikit_learn():
    rng = np.random.default_rng(2)
    positive, flagged = rng.uniform(size=30) < 0.4, rng.uniform(size=30) < 0.5
    for name in ("accuracy", "precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        assert flag_metric(name, flagged, positive) == pytest.approx(score(positive, flagged))


def test_undefined_metrics_are_nan():
    none, some = np.zeros(4, dtype=bool), np.array([True, False, True, False])
    assert np.isnan(flag_metric("precision", none, some)) and np.isnan(flag_metric("recall", some, none))


def test_a_true_prediction_scores_one_and_noise_does_not():
    found = evaluate(*tables(), CONFIG)
    for metric in ("pearson", "spearman", "auroc", "accuracy", "f1", "direction"):
        assert value(found, "crosscoder", metric)["value"] == pytest.approx(1), metric
    assert abs(value(found, "weak", "spearman")["value"]) < 0.6
    assert value(found, "majority", "accuracy")["value"] == pytest.approx(12 / 20)
    assert value(found, "crosscoder", "spearman", "outside_intended")["n"] == N - 2
    assert "leads the best baseline, weak" in baseline_summary(found)


def test_the_overall_drop_is_called_for_every_category_or_for_none():
    effects, weak, outcomes = tables()
    found = evaluate(effects, weak, outcomes, CONFIG)
    assert value(found, "aggregate_drop", "recall")["value"] == 1
    assert value(found, "aggregate_drop", "precision")["value"] == pytest.approx(8 / 20)
    assert "auroc" not in set(found.query("method == 'aggregate_drop'")["metric"])  # a constant ranks nothing
    outcomes["change"] -= 1
    found = evaluate(effects, weak, outcomes, CONFIG)
    assert value(found, "aggregate_drop", "recall")["value"] == 0


def test_baselines_flag_as_many_as_the_crosscoder():
    effects, baselines, outcomes = tables()
    found = evaluate(effects, baselines, outcomes, CONFIG)
    highest = baselines.nlargest(8, "value")["category"]
    hits = sum(int(key[1:]) >= 12 for key in highest)
    assert value(found, "weak", "precision")["value"] == pytest.approx(hits / 8)


def test_a_better_baseline_is_said_to_be_better():
    effects, _, outcomes = tables(noise=1.0)
    strong = pd.DataFrame({"category": KEYS, "method": "mean_kl", "value": outcomes["change"] * 2})
    found = evaluate(effects, strong, outcomes, CONFIG)
    assert value(found, "mean_kl", "spearman")["value"] > value(found, "crosscoder", "spearman")["value"]
    assert "the crosscoder trails the best baseline, mean_kl" in baseline_summary(found)


def test_all_methods_are_judged_on_the_same_categories():
    effects, baselines, outcomes = tables()
    effects.loc[0, "effect"] = np.nan
    baselines.loc[1, "value"] = np.nan
    unmeasured = baselines.assign(method="mean_kl", value=np.nan)
    found = evaluate(effects, pd.concat([baselines, unmeasured]), outcomes.iloc[:-1], CONFIG)
    assert set(found.query("subset == 'all'")["n"]) == {N - 3}
    assert set(found["method"]) == {
        "crosscoder",
        "crosscoder_effect",
        "weak",
        "majority",
        "aggregate_drop",
    }


def test_improved_predictions_rank_below_unaffected_ones():
    effects, baselines, outcomes = tables()
    effects.loc[0, ["effect", "direction", "verdict"]] = [5.0, "improved", "improved"]
    outcomes.loc[0, ["change", "ci_low"]] = [-5.0, -5.1]
    assert value(evaluate(effects, baselines, outcomes, CONFIG), "crosscoder", "spearman")["value"] > 0.99


def test_intervals_hold_the_value_and_narrow_with_a_lower_level():
    noisy = tables(noise=0.5)
    wide = value(evaluate(*noisy, CONFIG), "crosscoder", "spearman")
    narrow = value(evaluate(*noisy, EffectsConfig(replicates=100, level=0.5)), "crosscoder", "spearman")
    assert wide["ci_low"] < narrow["ci_low"] < wide["value"] < wide["ci_high"]


def test_outcomes_without_intervals_are_judged_by_their_change():
    outcomes = pd.DataFrame({"change": [0.2, 0.2, 0.01], "ci_low": [np.nan, 0.01, np.nan]})
    assert degraded_outcomes(outcomes, 0.05).tolist() == [True, False, False]


def test_few_categories_are_not_evaluated():
    effects, baselines, outcomes = tables()
    found = evaluate(effects, baselines, outcomes.iloc[:4], CONFIG)
    assert found.empty and baseline_summary(found) == ""


def test_open_outcomes_are_neither_degraded_nor_not():
    effects, baselines, outcomes = tables()
    outcomes["ci_high"] = outcomes["change"] + 0.01
    outcomes.loc[[0, 12], "ci_low"], outcomes.loc[[0, 12], "ci_high"] = (
        -1.0,
        1.0,
    )  # 12 is degraded, or is it not
    found = evaluate(effects, baselines, outcomes, CONFIG)
    assert value(found, "crosscoder", "auroc")["n"] == N - 2 == value(found, "weak", "accuracy")["n"]
    assert value(found, "crosscoder", "spearman")["n"] == N
    assert open_outcomes(outcomes, CONFIG.nll_margin).nonzero()[0].tolist() == [0, 12]
    assert value(found, "crosscoder", "accuracy")["value"] == 1  # 12 was called, and is no mistake
    outcomes["ci_low"], outcomes["ci_high"] = -1.0, 1.0
    assert set(evaluate(effects, baselines, outcomes, CONFIG)["metric"]) >= {"spearman", "pearson_lead"}


def test_a_baseline_calls_no_category_that_has_too_little_text():
    effects, _, outcomes = tables()
    strong = pd.DataFrame({"category": KEYS, "method": "strong", "value": outcomes["change"]})
    effects["reason"] = None
    effects.loc[18:, ["verdict", "reason"]] = ["not known", "too little text"]
    found = evaluate(effects, strong, outcomes, EffectsConfig(replicates=100))
    assert value(found, "strong", "recall")["value"] == value(found, "crosscoder", "recall")["value"] == 6 / 8


def test_a_lead_is_of_the_same_redrawn_categories():
    effects, baselines, outcomes = tables(noise=0.6)
    found = evaluate(effects, baselines, outcomes, CONFIG)
    draws = np.random.default_rng(CONFIG.seed).integers(N, size=(CONFIG.replicates, N))
    mine, its, change = effects["affected_share"], baselines["value"], outcomes["change"]
    loop = [stats.spearmanr(mine[i], change[i])[0] - stats.spearmanr(its[i], change[i])[0] for i in draws]
    row = value(found, "weak", "spearman_lead")
    both = value(found, "crosscoder", "spearman")["value"] - value(found, "weak", "spearman")["value"]
    assert row["value"] == pytest.approx(both)
    np.testing.assert_allclose([row["ci_low"], row["ci_high"]], np.quantile(loop, [0.025, 0.975]))
    said = baseline_summary(found)
    assert "size (Pearson)" in said and f"{row['value']:+.2f} [{row['ci_low']:+.2f}" in said


def test_the_surest_calls_are_those_farthest_from_the_boundary():
    rng = np.random.default_rng(3)
    value_, positive = rng.normal(size=11), rng.random(11) < 0.4
    right, sure = calls_by_confidence(value_, positive, 4)
    order = sorted(range(11), key=lambda i: -value_[i])
    for place, i in enumerate(order):
        called = place < 4
        assert right[i] == (called == positive[i])
        assert sure[i] == pytest.approx((3.5 - place) / 4 if called else (place - 3.5) / 7)
    best = sorted(range(11), key=lambda i: -sure[i])[:5]  # 40% of 11, rounded up
    assert precision_of_surest(right, sure, 0.4) == pytest.approx(np.mean([right[i] for i in best]))
    assert precision_of_surest(right, sure, 1.0) == pytest.approx(right.mean())
    perfect, _ = calls_by_confidence(value_, value_ > np.sort(value_)[-5], 4)
    assert perfect.all()
