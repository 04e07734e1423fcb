import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from mneme.effects.baseline_summary import baseline_summary
from mneme.effects.config import EffectsConfig
from mneme.effects.evaluate import degraded_outcomes, evaluate, flag_metric

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
