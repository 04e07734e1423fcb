"""How good the prediction was, once outcomes are measured: the crosscoder beside every baseline, no favours.

All methods are judged on the same categories (those with an outcome and a value of every method):

    pearson, spearman   of the method's value with the outcome's change of NLL
    auroc               the value as a detector of degraded categories
    accuracy, precision, recall, f1   the flagged categories against the degraded ones
    precision_at_20 ... 100   of the categories that the method is surest of, share called right (selective.py)
    direction           share of degraded categories whose predicted direction is degraded (crosscoder only)
    *_lead              the crosscoder's less the method's, on the same redrawn categories (paired)

A category is degraded when its outcome's interval lies above nll_margin (without an interval: its change), and open,
neither degraded nor not, when it spans it: the correlations have all categories, everything else those that are not
open. The crosscoder ranks by the affected share, the share of a category's text that changed latents touch, and flags
by its verdicts; a baseline has none, so it flags as many categories as the crosscoder does, its highest, and none that
has too little text for a verdict. `crosscoder_effect` ranks by the size of the effect instead, in which one passage may
outweigh all others. Two constants have read the outcomes: `majority` always gives the commoner answer,
`aggregate_drop` calls every category degraded when the benchmark's mean change is above nll_margin: what its one
overall score says. Intervals: bootstrap over categories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.arrays import divide
from mneme._util.vocabulary import LITTLE_TEXT
from mneme.effects.config import EffectsConfig
from mneme.effects.selective import SHARES, calls_by_confidence, precision_of_surest
from mneme.stats.association import auroc, pearson, spearman
from mneme.stats.bootstrap import percentile_interval, redraws

SIGNED = {"improved": -1.0}
OWN = ("crosscoder", "crosscoder_effect")
NOT_BASELINES = (*OWN, "oracle")
"""Methods that are no baseline: the crosscoder's own, and the oracle, which alone has read the benchmark."""
CONSTANTS = ("majority", "aggregate_drop")
LEADS = ("pearson", "spearman", "auroc", "accuracy")
"""Metrics of which the crosscoder's lead over each method is told."""
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
    records = []
    for subset, rows in _subsets(table, config).items():
        if len(rows) >= MINIMUM:
            records += _records(rows, [*methods, *CONSTANTS], subset, config)
    return pd.DataFrame(records, columns=_COLUMNS)


def degraded_outcomes(outcomes: pd.DataFrame, margin: float) -> np.ndarray:
    """(n,) bool: which outcomes count as degraded."""
    bound = outcomes["change"].astype(float)
    if "ci_low" in outcomes:
        bound = outcomes["ci_low"].astype(float).fillna(bound)
    return (bound > margin).to_numpy()


def open_outcomes(outcomes: pd.DataFrame, margin: float) -> np.ndarray:
    """(n,) bool: whose interval spans the margin, so that nobody knows whether they are degraded."""
    if not {"ci_low", "ci_high"} <= set(outcomes):
        return np.zeros(len(outcomes), dtype=bool)
    low, high = outcomes["ci_low"].astype(float), outcomes["ci_high"].astype(float)
    found: np.ndarray = ((low <= margin) & (high >= margin)).to_numpy()
    return found


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
            "enough_text": effects["reason"] != LITTLE_TEXT if "reason" in effects else True,
        }
    )
    truth = pd.DataFrame(
        {
            "category": outcomes["category"],
            "change": outcomes["change"],
            "degraded": degraded_outcomes(outcomes, config.nll_margin),
            "open": open_outcomes(outcomes, config.nll_margin),
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


class _Judged(NamedTuple):
    """One metric of one method."""

    value: float
    drawn: np.ndarray
    """(R,) on redrawn categories: the same for every method."""
    n: int


def _judge(rows: pd.DataFrame, method: str, config: EffectsConfig) -> dict[str, _Judged]:
    """Metric -> what it is of the method."""
    settled = rows[~rows["open"]]
    found: dict[str, _Judged] = {}
    if method not in CONSTANTS:
        value, change = rows[method].to_numpy(float), rows["change"].to_numpy(float)
        found["pearson"] = _drawn(lambda i: pearson(value[i], change[i]), len(rows), config)
        found["spearman"] = _drawn(lambda i: spearman(value[i], change[i]), len(rows), config)
    if settled.empty:
        return found
    degraded, flagged = settled["degraded"].to_numpy(bool), _flags(rows, settled, method, config)
    if method not in CONSTANTS:
        ranked = settled[method].to_numpy(float)
        found["auroc"] = _drawn(lambda i: auroc(ranked[i], degraded[i]), len(settled), config)
        right, sure = calls_by_confidence(ranked, degraded, int(settled["flagged"].sum()))
        for percent in SHARES:
            found[f"precision_at_{percent}"] = _drawn(
                partial(_surest_again, right, sure, percent), len(settled), config
            )
    for metric in _FLAG_METRICS:
        found[metric] = _drawn(partial(_flagged_again, metric, flagged, degraded), len(settled), config)
    if method == "crosscoder":
        way = settled["right_way"].to_numpy(float)
        found["direction"] = _drawn(
            lambda i: divide((way[i] * degraded[i]).sum(-1), degraded[i].sum(-1)), len(settled), config
        )
    return found


def _flags(rows: pd.DataFrame, settled: pd.DataFrame, method: str, config: EffectsConfig) -> np.ndarray:
    """(n,) bool: which of the settled categories the method calls degraded."""
    if method in CONSTANTS:
        majority = settled["degraded"].mean() > 0.5
        drop = majority if method == "majority" else rows["change"].mean() > config.nll_margin
        return np.full(len(settled), bool(drop))
    flagged = settled["flagged"].to_numpy(bool)
    if method == "crosscoder":
        return flagged
    value = settled[method].to_numpy(float)
    enough = settled["enough_text"].to_numpy(bool)
    found: np.ndarray = _highest(np.where(enough, value, -np.inf), int(flagged.sum())) & enough
    return found


def _drawn(function: Callable[[np.ndarray], np.ndarray], n: int, config: EffectsConfig) -> _Judged:
    draws = redraws(n, config.replicates, np.random.default_rng(config.seed))
    return _Judged(float(function(np.arange(n))), function(draws), n)


def _surest_again(right: np.ndarray, sure: np.ndarray, percent: int, i: np.ndarray) -> np.ndarray:
    return precision_of_surest(right[i], sure[i], percent / 100)


def _records(
    rows: pd.DataFrame, methods: Sequence[str], subset: str, config: EffectsConfig
) -> list[tuple[Any, ...]]:
    """Rows of table `evaluation` on one subset: every method's metrics, and the crosscoder's leads."""
    judged = {method: _judge(rows, method, config) for method in methods}
    records = []
    for method, found in judged.items():
        for metric, each in found.items():
            low, high = map(float, percentile_interval(each.drawn, config.level))
            records.append((method, metric, subset, each.value, low, high, each.n))
        for metric in () if method in OWN else LEADS:
            mine, its = judged["crosscoder"].get(metric), found.get(metric)
            if mine is not None and its is not None:
                low, high = map(float, percentile_interval(mine.drawn - its.drawn, config.level))
                records.append((method, f"{metric}_lead", subset, mine.value - its.value, low, high, its.n))
    return records


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
