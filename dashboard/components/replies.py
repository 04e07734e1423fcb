"""What a label was made of: the prompt and the raw reply; and explainers compared."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import words
from mneme.interpret.clients.response_cache import ResponseCache
from mneme.store.queries import explainers as comparison
from mneme.store.run import Run

_LONGEST = 20_000  # characters of a prompt that are shown


def show(run: Run, detail: str | None) -> None:
    """Prompt and raw reply behind a label, where a language model made it; `detail` is the label's."""
    try:
        name = json.loads(detail or "{}").get("receipt")
    except (AttributeError, TypeError, ValueError):
        return
    # The name becomes part of a path: nothing but a hash may.
    if not isinstance(name, str) or len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        return
    response = ResponseCache(run.path / "labels").get(name)
    if response is None:
        st.caption("The prompt and the reply are no longer in the run's folder (labels/).")
        return
    st.caption(
        f"Prompt {words.count(response.prompt_tokens)} tokens, reply {words.count(response.reply_tokens)}, "
        f"{words.duration(response.seconds)}. {words.count(response.attempts)} paid."
    )
    prompt, reply, instructions = st.tabs(["Prompt", "Raw reply", "Instructions"])
    for tab, text in (
        (prompt, _indented(response.user)),
        (reply, response.reply),
        (instructions, response.system),
    ):
        with tab:
            st.code(
                "\n".join(words.plain(line, 600) for line in text[:_LONGEST].split("\n")) or "(empty)",
                language=None,
                wrap_lines=True,
                height=260,
            )


def show_comparison(run: Run) -> None:
    """Explainers compared on the same latents, and labels that did not come; nothing where there are neither."""
    found, failed = comparison.method_rows(run), comparison.failures(run)
    if not found and not failed:
        return
    st.subheader(
        "Explainers",
        help="What language models that were asked for labels gave. Compare several with "
        "`mneme label RUN --compare A,B,offline`.",
    )
    if found:
        _table(found)
        n = max(row["n_scored"] for row in found)
        st.caption(f"Scores are of the {words.count(n)} latents that all who labelled have one on.")
        for pair in comparison.pair_rows(run):
            st.caption(
                f"{words.markdown(pair['method'], 60)} and {words.markdown(pair['other'], 60)}: mean cosine of "
                f"their labels {words.number(pair['cosine'])}, nearest to the same category in "
                f"{words.percent(pair['same_category'])} of {words.count(pair['n'])} latents."
            )
    for method, reason, n in failed:
        st.caption(
            f"{words.count(n)} without a label by {words.markdown(method, 60)}: {words.markdown(reason, 200)}"
        )


def _table(found: list[dict[str, Any]]) -> None:
    st.dataframe(
        pd.DataFrame(
            {
                "explainer": [words.plain(row["method"], 60) for row in found],
                "labelled": [
                    f"{words.count(row['n_labelled'])} of {words.count(row['n_asked'])}" for row in found
                ],
                "held-out score": [words.percent(row["score"]) for row in found],
                "95 % interval": [
                    f"{words.percent(row['ci_low'])} … {words.percent(row['ci_high'])}" for row in found
                ],
                "other latents' labels": [words.percent(row["score_shuffled"]) for row in found],
                "tokens": [words.count(row["tokens"]) for row in found],
                "money": ["–" if row["money"] is None else f"{row['money']:,.4f}" for row in found],
                "time": [words.duration(row["seconds"]) for row in found],
            }
        ),
        hide_index=True,
        height="content",
        alt="Explainers compared on the same latents",
    )


def _indented(data: str) -> str:
    """The prompt's JSON, a line an example."""
    try:
        return json.dumps(json.loads(data), indent=1, ensure_ascii=False)
    except ValueError:
        return data
