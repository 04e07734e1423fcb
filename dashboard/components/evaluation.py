"""How good the prediction was: in a sentence, and beside every baseline."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.components import words
from mneme.effects.baseline_summary import baseline_summary
from mneme.effects.evaluate import CONSTANTS, NOT_BASELINES
from mneme.report.method import METHOD_NAMES, METRICS

_ORDER = ("auroc", "spearman", "accuracy", "precision", "recall", "f1", "direction", "pearson")
_TITLES = {"all": "All categories", "outside_intended": "Outside what was intended"}


def method_name(method: str) -> str:
    """As shown: a known method's name, another's own."""
    return words.plain(METHOD_NAMES.get(method, method), 60)


def show(evaluation: pd.DataFrame) -> None:
    """The whole section. evaluation: the run's table of this name, at least one row."""
    st.subheader(
        "Is the crosscoder worth it?",
        help="The same comparison for cheap baselines that need no crosscoder, on the same text and categories.",
    )
    sentence = baseline_summary(evaluation, METHOD_NAMES)
    if sentence:
        trails = " trails " in sentence
        tell, icon = (
            (st.warning, ":material/trending_down:") if trails else (st.success, ":material/trending_up:")
        )
        tell(words.markdown(sentence, 1200), icon=icon)
    baselines = st.toggle(
        "Show the baselines",
        value=True,
        key="baselines",
        bind="query-params",
        help="Methods that need no crosscoder.",
    )
    if not baselines:
        evaluation = evaluation[evaluation["method"].isin(NOT_BASELINES)]
    for subset, title in _TITLES.items():
        own = evaluation[evaluation["subset"] == subset]
        if len(own):
            st.markdown(f"**{title}** ({words.count(own['n'].max())} categories)")
            st.dataframe(
                _wide(own), hide_index=True, height="content", placeholder="–", alt=f"Evaluation, {title}"
            )


def _wide(own: pd.DataFrame) -> pd.DataFrame:
    """A row a method, the crosscoder's first, then by AUROC, constants last."""
    shown = [
        words.interval(v, a, b, signed=False)
        for v, a, b in zip(own["value"], own["ci_low"], own["ci_high"], strict=True)
    ]
    wide = own.assign(shown=shown).pivot_table(
        index="method", columns="metric", values="shown", aggfunc="first", sort=False
    )
    auroc = own[own["metric"] == "auroc"].set_index("method")["value"]
    place = {m: (m not in NOT_BASELINES, m in CONSTANTS, -float(auroc.get(m, 0))) for m in wide.index}
    wide = wide.loc[sorted(wide.index, key=lambda m: place[m])]
    wide = wide[[metric for metric in _ORDER if metric in wide]]
    wide.insert(0, "method", [method_name(m) for m in wide.index])
    return wide.rename(columns=METRICS)
