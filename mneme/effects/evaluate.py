"""How good the prediction was, once outcomes are measured: the crosscoder beside every baseline, no favours.

All methods are judged on the same categories (those with an outcome and a value of every method):

    pearson, spearman   of the method's value with the outcome's change of NLL
    auroc               the value as a detector of degraded categories
    accuracy, precision, recall, f1   the flagged categories against the degraded ones
    direction           share of degraded categories whose predicted direction is degraded (crosscoder only)

A category is degraded when its outcome's interval lies above nll_margin (without an interval: its change).
The crosscoder ranks by the affected share, the share of a category's text that changed latents touch, and flags by its
verdicts; a baseline has none, so it flags as many categories as the crosscoder does, its highest. `crosscoder_effect`
ranks by the size of the effect instead, in which one passage may outweigh all others. Two constants have read the
outcomes: `majority` always gives the commoner answer, `aggregate_drop` calls every category degraded when the
benchmark's mean change is above nll_margin: what its one overall score says. Intervals: bootstrap over categories.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from mneme._util.arrays import divide
from mneme.effects.config import EffectsConfig
from mneme.stats.association import auroc, pearson, spearman
from mneme.stats.bootstrap import percentile_interval, redraws

SIGNED = {"improved": -1.0}
OWN = ("crosscoder", "crosscoder_effect")
NOT_BASELINES = (*OWN, "oracle")
"""Methods that are no baseline: the crosscoder's own, and the oracle, which alone has read the benchmark."""
CONSTANTS = ("majority", "aggregate_drop")
_FLAG_METRICS = ("accuracy", "precision", "recall", "f1")
_COLUMNS = ["method", "metric", "subset", "value", "ci_low", "ci_high", "n"]
MINIMUM = 5  # categories; fewer say nothing


def evaluate(
    effects: pd.DataFrame, baselines: pd.DataFrame, outcomes: pd.DataFrame, config: EffectsConfig
) -> pd.DataFrame:
    """Table `evaluation`: method, metric, subset (all, outside_intended), value, ci_low, ci_high, n.

    A metric that is undefined (one kind of outcome only, constant values) is NaN. Empty when fewer than five
    categories have an outcome.
    """
    table, methods = _joined(effects, baselines, outcomes, config)
    parts = []
    for subset, rows in _subsets(table, config).items():
        if len(rows) >= MINIMUM:
            parts += [_judge(rows, method, subset, config) for method in [*methods, *CONSTANTS]]
    if not parts:
        return pd.DataFrame(columns=_COLUMNS)
    return pd.concat(parts, ignore_index=True)[_COLUMNS]


def degraded_outcomes(outcomes: pd.DataFrame, margin: float) -> np.ndarray:
    """(n,) bool: which outcomes count as degraded."""
    bound = outcomes["change"].astype(float)
    if "ci_low" in outcomes:
        bound = outcomes["ci_low"].astype(float).fillna(bound)
    return (bound > margin).to_numpy()


def _joined(
    effects: pd.DataFrame, baselines: pd.DataFrame, outcomes: pd.DataFrame, config: EffectsConfig
) -> tuple[pd.DataFrame, list[str]]:
    """A row a category that all methods can be judged on: change, degraded, flagged, a column a method."""
    sign = effects["direction"].map(SIGNED).fillna(1.0)
    table = pd.DataFrame(
        {
            "category": effects["category"],
            "crosscoder": effects["affected_share"] * sign,
            "crosscoder_effect": effects["effect"] * sign,
            "flagged": effects["verdict"] == "degraded",
            "right_way": effects["direction"] == "degraded",
        }
    )
    truth = pd.DataFrame(
        {
            "category": outcomes["category"],
            "change": outcomes["change"],
            "degraded": degraded_outcomes(outcomes, config.nll_margin),
        }
    )
    values = baselines.pivot_table(index="category", columns="method", values="value", dropna=False)
    table = table.merge(truth, on="category").merge(values, left_on="category", right_index=True, how="left")
    methods = [*OWN, *(name for name in values.columns if table[name].notna().any())]
    return table.dropna(subset=[*methods, "change"]), methods


def _subsets(table: pd.DataFrame, config: EffectsConfig) -> dict[str, pd.DataFrame]:
    found = {"all": table}
    if config.intended:
        found["outside_intended"] = table[~table["category"].isin(config.intended)]
    return found


def _judge(rows: pd.DataFrame, method: str, subset: str, config: EffectsConfig) -> pd.DataFrame:
    change, degraded = rows["change"].to_numpy(float), rows["degraded"].to_numpy(bool)
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    if method in CONSTANTS:
        drop = degraded.mean() > 0.5 if method == "majority" else change.mean() > config.nll_margin
        flagged = np.full(len(rows), drop)
    else:
        value = rows[method].to_numpy(float)
        flagged = rows["flagged"].to_numpy(bool)
        if method != "crosscoder":
            flagged = _highest(value, int(flagged.sum()))
        found["pearson"] = lambda i: pearson(value[i], change[i])
        found["spearman"] = lambda i: spearman(value[i], change[i])
        found["auroc"] = lambda i: auroc(value[i], degraded[i])
    for metric in _FLAG_METRICS:
        found[metric] = partial(_flagged_again, metric, flagged, degraded)
    if method == "crosscoder":
        right = rows["right_way"].to_numpy(float)
        found["direction"] = lambda i: divide((right[i] * degraded[i]).sum(-1), degraded[i].sum(-1))
    draws = redraws(len(rows), config.replicates, np.random.default_rng(config.seed))
    whole = np.arange(len(rows))
    records = []
    for metric, function in found.items():
        low, high = map(float, percentile_interval(function(draws), config.level))
        records.append((method, metric, subset, float(function(whole)), low, high, len(rows)))
    return pd.DataFrame(records, columns=_COLUMNS)


def _flagged_again(metric: str, flagged: np.ndarray, positive: np.ndarray, i: np.ndarray) -> np.ndarray:
    return flag_metric(metric, flagged[i], positive[i])


def _highest(value: np.ndarray, k: int) -> np.ndarray:
    """(n,) bool: the k highest."""
    flagged = np.zeros(len(value), dtype=bool)
    flagged[np.argsort(-value, kind="stable")[:k]] = True
    return flagged


def flag_metric(metric: str, flagged: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(...) of arrays (..., n): accuracy, precision (NaN: nothing is flagged), recall or f1 (NaN: no positives)."""
    if metric == "accuracy":
        found: np.ndarray = (flagged == positive).mean(-1)
        return found
    among = {
        "precision": flagged.sum(-1),
        "recall": positive.sum(-1),
        "f1": (flagged.sum(-1) + positive.sum(-1)) / 2,
    }
    return divide((flagged & positive).sum(-1), among[metric])
