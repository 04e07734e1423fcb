"""Two runs' latents in one table."""

import pandas as pd
import streamlit as st

from dashboard.components import state, tables, words
from mneme._util.vocabulary import LATENT_SIGNS


def matched(rows: pd.DataFrame, kind: str) -> None:
    """Pairs of latents with both runs' verdicts. rows: of `queries.compare.both_latents`; kind: what likeness is."""
    numbers = [(int(a), int(b)) for a, b in zip(rows["latent"], rows["other"], strict=True)]

    def open_one() -> None:
        """Open A's latent of the chosen row; a callback."""
        if (row := tables.picked("compare_latents", len(numbers))) is not None:
            state.open_latent(numbers[row][0])

    sign = LATENT_SIGNS
    st.dataframe(
        rows.assign(
            a=[f"{sign.get(v, '')} {v}" for v in rows["verdict"]],
            b=[f"{sign.get(v, '')} {v}" for v in rows["verdict_other"]],
            label=[words.plain(t, 80) for t in rows["label"]],
            label_other=[words.plain(t, 80) for t in rows["label_other"]],
        )[
            [
                "latent",
                "other",
                "similarity",
                "a",
                "b",
                "label",
                "label_other",
                "log_ratio",
                "log_ratio_other",
            ]
        ],
        key="compare_latents",
        hide_index=True,
        height=min(340, 38 + 35 * len(rows)),
        on_select=open_one,
        selection_mode=tables.ROW,
        column_config={
            "latent": st.column_config.NumberColumn("A", format="%d", width=60),
            "other": st.column_config.NumberColumn("B", format="%d", width=60),
            "similarity": st.column_config.NumberColumn("likeness", format="%.2f", width=70, help=kind),
            "a": st.column_config.TextColumn("verdict A", width=108),
            "b": st.column_config.TextColumn("verdict B", width=108),
            "log_ratio": st.column_config.NumberColumn("log ratio A", format="%+.2f", width=85),
            "log_ratio_other": st.column_config.NumberColumn("log ratio B", format="%+.2f", width=85),
            "label": st.column_config.TextColumn("label A", width=180),
            "label_other": st.column_config.TextColumn("label B", width=180),
        },
        placeholder="–",
        alt="Matched latents with both runs' verdicts; click a row to open run A's latent",
    )
    st.caption("Click a row to open run A's latent.")
