"""Whether the crosscoder earned its keep, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mneme.effects.evaluate import NOT_BASELINES

_RANKING = {
    "pearson": "size (Pearson)",
    "spearman": "ranking (Spearman)",
    "auroc": "detecting degraded categories (AUROC)",
    "accuracy": "calling categories degraded (accuracy; a baseline is told how many to call)",
}
_SUBSETS = {"all": "over all categories", "outside_intended": "outside what was intended"}


def baseline_summary(evaluation: pd.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """Whether the crosscoder earned its keep: where it leads every baseline, where one leads it.

    Empty when nothing was evaluated. names: what methods are called, others by their own name.
    """
    parts = []
    for subset, where in _SUBSETS.items():
        for metric, what in _RANKING.items():
            rows = evaluation[(evaluation["subset"] == subset) & (evaluation["metric"] == metric)]
            rows = rows.dropna(subset=["value"])
            own = rows[rows["method"] == "crosscoder"]
            others = rows[~rows["method"].isin(NOT_BASELINES)].sort_values("value", ascending=False)
            if not len(own) or not len(others):
                continue
            mine, best = float(own["value"].iloc[0]), others.iloc[0]
            word = "leads" if mine > best["value"] else "trails" if mine < best["value"] else "equals"
            name = (names or {}).get(best["method"], best["method"])
            parts.append(
                f"{where}, in {what}, the crosscoder {word} the best baseline, {name}"
                f" ({mine:.2f} against {best['value']:.2f}{_lead(evaluation, subset, metric, best['method'])})"
            )
    if not parts:
        return ""
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _lead(evaluation: pd.DataFrame, subset: str, metric: str, method: str) -> str:
    """`; +0.03 [-0.01, +0.09], which may be chance`: the paired difference; '' where there is none."""
    rows = evaluation.query("subset == @subset and method == @method and metric == @metric + '_lead'")
    rows = rows.dropna(subset=["ci_low", "ci_high"])
    if rows.empty:
        return ""
    value, low, high = (float(rows[name].iloc[0]) for name in ("value", "ci_low", "ci_high"))
    chance = ", which may be chance" if low <= 0 <= high else ""
    return f"; {value:+.2f} [{low:+.2f}, {high:+.2f}]{chance}"
