"""How a latent's labels were judged: a table of tests, and windows they were judged on."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.components import words
from mneme.store.queries import label_scores as queries
from mneme.store.run import Run

_TESTS = {
    ("detection", "random"): "Detection, random windows",
    ("detection", "hard"): "Detection, near latents' windows",
    ("fuzzing", "random"): "Fuzzing, other words marked",
}
_HELP = (
    "Held-out text only. Detection: does the latent fire in the window? Fuzzing: are the marked words "
    "those it fires on? Balanced accuracy, 50 % is guessing, with a 95 % interval over documents: few leave it "
    "wide. Other labels: what other latents' labels get on the same windows."
)
_COLUMNS = {
    "test": st.column_config.TextColumn("test", width=215),
    "score": st.column_config.NumberColumn("score", format="%.1f %%", width=65),
    "interval": st.column_config.TextColumn("95 % interval", width=105),
    "shuffled": st.column_config.NumberColumn("other labels", format="%.1f %%", width=90),
    "f1": st.column_config.NumberColumn("F1", format="%.2f", width=55),
    "auprc": st.column_config.NumberColumn("AUPRC", format="%.2f", width=65),
    "windows": st.column_config.TextColumn("windows, + and −", width=115),
}


def panel(run: Run, latent: int) -> None:
    """Scores of its labels by test, then the windows behind one of them. Nothing where none were scored."""
    scores = queries.scores_of(run, latent)
    if scores.empty:
        return
    st.markdown("**Scores on held-out text**", help=_HELP)
    pairs = list(dict.fromkeys(zip(scores["method"], scores["scorer"], strict=True)))
    for method, scorer in pairs:
        own = scores[(scores["method"] == method) & (scores["scorer"] == scorer)]
        st.caption(f"{words.markdown(method, 60)} label, judged by {_judge(scorer)}")
        st.dataframe(
            _shown(own),
            hide_index=True,
            height="content",
            column_config=_COLUMNS,
            placeholder="–",
            key=f"scores_{method}_{scorer}",
            alt=f"Scores of the {method} label by {scorer}",
        )
    examples = queries.examples_of(run, latent)
    if examples.empty:
        return
    keys = list(dict.fromkeys(zip(examples["method"], examples["scorer"], examples["test"], strict=True)))
    chosen = keys[0]
    if len(keys) > 1:
        chosen = st.selectbox(
            "Windows it was judged on",
            keys,
            format_func=lambda key: f"{key[2]} · {key[0]} label · {_judge(key[1])}",
            key="judged_windows",
        )
    mine = (examples[["method", "scorer", "test"]] == list(chosen)).all(axis=1)
    st.dataframe(
        _windows(examples[mine]),
        hide_index=True,
        height="content",
        column_config={
            "": st.column_config.TextColumn(width=30, help="✓ judged right, ✗ judged wrong"),
            "in truth": st.column_config.TextColumn(width=150),
            "judged": st.column_config.TextColumn(width=60),
            "fit": st.column_config.NumberColumn(
                format="%.2f", width=55, help="How well the window fits the label, to the judge."
            ),
            "marked": st.column_config.TextColumn(width=160),
            "document": st.column_config.NumberColumn(format="%d", width=80),
            "text": st.column_config.TextColumn(width=420),
        },
        placeholder="–",
        key="judged_rows",
        alt="Windows the label was judged on",
    )


def _judge(scorer: str) -> str:
    return "the sentence encoder" if scorer == "encoder" else words.markdown(scorer, 60)


def _shown(own: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "test": [
                _TESTS.get(key, " ".join(key)) for key in zip(own["test"], own["negatives"], strict=True)
            ],
            "score": 100 * own["balanced_accuracy"].to_numpy(),
            "interval": [
                "–" if pd.isna(low) or pd.isna(high) else f"{words.percent(low)} to {words.percent(high)}"
                for low, high in zip(own["ci_low"], own["ci_high"], strict=True)
            ],
            "shuffled": 100 * own["shuffled"].to_numpy(),
            "f1": own["f1"].to_numpy(),
            "auprc": own["auprc"].to_numpy(),
            "windows": [f"{p} + {n}" for p, n in zip(own["n_positive"], own["n_negative"], strict=True)],
        }
    )


def _windows(examples: pd.DataFrame) -> pd.DataFrame:
    fuzzing = bool((examples["test"] == "fuzzing").any())
    truth = {
        (True, "random"): "its own words" if fuzzing else "fires",
        (False, "random"): "other words" if fuzzing else "silent",
        (False, "hard"): "silent, a near one fires",
    }
    shown = pd.DataFrame(
        {
            "": [
                "✓" if p == j else "✗" for p, j in zip(examples["positive"], examples["judged"], strict=True)
            ],
            "in truth": [
                truth.get((bool(p), str(n)), "")
                for p, n in zip(examples["positive"], examples["negatives"], strict=True)
            ],
            "judged": ["yes" if j else "no" for j in examples["judged"]],
            "fit": examples["fit"].to_numpy(),
            "marked": [words.plain(t, 60) if t else "" for t in examples["marked"]],
            "document": examples["document"].to_numpy(),
            "text": [words.plain(t, 300) if t else "" for t in examples["text"]],
        }
    )
    return shown if fuzzing else shown.drop(columns="marked")
