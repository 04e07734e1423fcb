"""What the models can do, measured: right answers by category, where the base beats guessing."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.components import theme, words

HELP = (
    "A prediction is of next-token NLL, and a rise of it need not mean that anything is forgotten. A quiz asks: the"
    " share of right answers to the same questions, of both models. Only where the base beats guessing is there"
    " anything to lose."
)


def show(found: pd.DataFrame) -> None:
    """The section. found: queries/outcomes.py `capabilities`; nothing is shown of none."""
    if found.empty:
        return
    counted = found[~found["at_chance"]]
    st.subheader("Capability", help=HELP)
    st.markdown(sentence(found))
    if len(counted):
        st.dataframe(
            _table(counted), hide_index=True, height=_height(len(counted)), placeholder="–", alt="Capability"
        )


def sentence(found: pd.DataFrame) -> str:
    """`Right answers (words): the base beats guessing in 22 of 27 areas; of these 3 worse, 0 better, ...`"""
    beats = found[found["proven"].astype(bool)]
    unknown = int((~found["proven"].astype(bool) & ~found["at_chance"]).sum())
    told = beats["measured"].value_counts()
    parts = ", ".join(f"{told.get(word, 0)} {word}" for word in ("worse", "better", "same", "open"))
    names = ", ".join(dict.fromkeys(words.plain(b, 30) for b in found["benchmark"]))
    head = f"Right answers ({names}): the base beats guessing in {len(beats)} of {len(found)} areas; of these {parts}."
    return f"{head} Of {unknown} areas the chance level is not known." if unknown else head


def _height(rows: int) -> int:
    return min(340, 38 + 35 * rows)


def _table(counted: pd.DataFrame) -> pd.DataFrame:
    lost = counted["accuracy_tuned"] - counted["accuracy_base"]
    return pd.DataFrame(
        {
            "category": [words.plain(n, 60) for n in counted["name"]],
            "benchmark": [words.plain(b, 30) for b in counted["benchmark"]],
            "base": (100 * counted["accuracy_base"]).round(0),
            "tuned": (100 * counted["accuracy_tuned"]).round(0),
            "change, points": (100 * lost).round(0),
            "95 % interval": [
                words.between(100 * a, 100 * b)
                for a, b in zip(counted["accuracy_low"], counted["accuracy_high"], strict=True)
            ],
            "measured": counted["measured"],
            "verdict on NLL": [
                f"{theme.EFFECT_SIGN.get(v, '')} {v}" if not words.missing(v) else None
                for v in counted["verdict"]
            ],
            "items": counted["n"],
        }
    )
