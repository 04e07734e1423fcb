"""Tables of latents: the same columns and formats everywhere, a selected row opens the latent."""

from __future__ import annotations

from typing import Literal

import pandas as pd
import streamlit as st

from dashboard.components import review, state, theme, words
from mneme._util.vocabulary import LATENT_SIGNS

_COLUMNS = {
    "latent": st.column_config.NumberColumn("latent", format="%d", width=64),
    "verdict": st.column_config.TextColumn("verdict", help=theme.HELP["verdict"], width=106),
    "reason": st.column_config.TextColumn("reason", width=150, help=theme.HELP["reason"]),
    "review": st.column_config.TextColumn("review", width=105, help=theme.HELP["review"]),
    "priority": st.column_config.NumberColumn(
        "priority", format="%.0f", width=66, help=theme.HELP["priority"]
    ),
    "label": st.column_config.TextColumn(
        "label", width=215, help="What the latent's contexts share; ✎: an analyst's own words."
    ),
    "match": st.column_config.TextColumn(
        "match", width=330, help="A piece of a context with the word that was searched, in «»."
    ),
    "category": st.column_config.TextColumn("category", width=128, help=theme.HELP["category"]),
    "severity": st.column_config.NumberColumn(
        "severity", format="%.3g", width=80, help=theme.HELP["severity"]
    ),
    "log_ratio": st.column_config.NumberColumn(
        "log ratio", format="%+.2f", width=74, help=theme.HELP["log_ratio"]
    ),
    "interval": st.column_config.TextColumn("95 % interval", width=118, help=theme.HELP["log_ratio"]),
    "q_value": st.column_config.NumberColumn("q", format="%.2g", width=70, help=theme.HELP["q_value"]),
    "delta_norm": st.column_config.NumberColumn(
        "delta norm", format="%.2f", width=85, help=theme.HELP["delta_norm"]
    ),
    "beta_base": st.column_config.NumberColumn("beta(b)", format="%.2f", width=72, help=theme.HELP["beta"]),
    "beta_tuned": st.column_config.NumberColumn("beta(f)", format="%.2f", width=72, help=theme.HELP["beta"]),
    "firing_rate": st.column_config.NumberColumn(
        "fires on %", format="%.3g", width=80, help=theme.HELP["firing_rate"]
    ),
    "kl": st.column_config.NumberColumn("KL", format="%.3f", width=70, help=theme.HELP["kl"]),
    "nll_change": st.column_config.NumberColumn(
        "NLL change", format="%+.3f", width=92, help=theme.HELP["nll_change"]
    ),
    "score": st.column_config.NumberColumn("label score", format="%.2f", width=90, help=theme.HELP["score"]),
    "stability": st.column_config.NumberColumn(
        "found again", format="percent", width=92, help=theme.HELP["stability"]
    ),
    "contribution": st.column_config.NumberColumn(
        "share in effect", format="%.3g", width=105, help="What the latent adds to the category's effect."
    ),
    "similarity": st.column_config.NumberColumn("similarity", format="%.2f", width=85),
}


ROW: tuple[Literal["single-row"], Literal["single-cell"]] = ("single-row", "single-cell")
"""Selection by a tick or by a click anywhere in a row."""


def picked(key: str, n: int) -> int | None:
    """The chosen row, 0 to n - 1, of the table `key` whose selection_mode is ROW."""
    chosen = st.session_state[key].selection
    rows = [*chosen.rows, *(row for row, _ in chosen.cells)]
    return rows[0] if rows and rows[0] < n else None


def latent_table(
    frame: pd.DataFrame, columns: list[str], *, key: str, height: int | Literal["content"], alt: str
) -> None:
    """Rows of latents; choosing one opens its page. `columns` are names of `_COLUMNS`; the review's
    state comes beside the number where any row has one.

    the reason beside the verdict where any is uncertain.

    The first column of `frame` that is called latent (or neighbour) is what opens.
    """
    run = state.current_run()
    found = review.reviews(run) if run is not None else {}
    shown = review.add_columns(frame, found)
    if "review" not in columns and any(shown["review"]):
        columns = [columns[0], "review", *columns[1:]]
    if "reason" in shown and "verdict" in columns and shown["reason"].notna().any():
        after = columns.index("verdict") + 1
        columns = [*columns[:after], "reason", *columns[after:]]
        shown["reason"] = [words.plain(why, 40) for why in shown["reason"]]
    shown["verdict"] = [f"{LATENT_SIGNS.get(v, '')} {v}" for v in shown["verdict"]]
    for text in {"label", "category"} & set(shown.columns):
        shown[text] = [words.plain(t, 90) for t in shown[text]]
    if "unreliable" in shown:
        shown["label"] = [
            f"{text} (unreliable)" if weak and not str(text).endswith(review.EDITED) else text
            for text, weak in zip(shown["label"], shown["unreliable"].fillna(False), strict=True)
        ]
    if "ci_low" in shown:
        shown["interval"] = [
            words.bounds(*row)
            for row in zip(*(shown[c] for c in ("log_ratio", "ci_low", "ci_high")), strict=True)
        ]
    if "firing_rate" in shown:
        shown["firing_rate"] = 100 * shown["firing_rate"]
    numbers = [int(n) for n in frame["latent"]]

    def chosen() -> None:
        if (row := picked(key, len(numbers))) is not None:
            state.open_latent(numbers[row])

    st.dataframe(
        shown[columns],
        key=key,
        hide_index=True,
        height=height,
        on_select=chosen,
        selection_mode=ROW,
        column_config={name: _COLUMNS[name] for name in columns},
        placeholder="–",
        alt=alt,
    )
