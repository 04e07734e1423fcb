"""What can be done with a run of the list: go on with it, label it again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard.components import jobs, words
from mneme.store.queries.runs import RunEntry

TOKENS_A_LABEL = 2000  # about 40 contexts of 32 tokens, the instructions and the answer


def actions(folder: Path, entries: Sequence[RunEntry]) -> None:
    """Buttons for runs that stopped before their end, and for labelling a finished one."""
    shown = {job.name for job in jobs.under_way(folder)} | set(jobs.waiting(folder))
    stopped = [
        entry.name
        for entry in entries
        if entry.name not in shown
        and entry.state != "unreadable"
        and jobs.state_text(folder, entry) not in ("finished", "running")
        and jobs.settings_of(folder, entry.name)
    ]
    labelled = [e.name for e in entries if "interpretation" in e.stages and jobs.settings_of(folder, e.name)]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for name in stopped:
            st.button(
                f"Resume {words.markdown(name, 30)}",
                key=f"go_on_{name}",
                icon=":material/resume:",
                on_click=jobs.resume,
                args=(folder, name),
                help="Go on from where it stopped.",
            )
        if labelled:
            with st.popover("Label with a language model", icon=":material/label:"):
                _labelling(folder, labelled)


def _labelling(folder: Path, names: Sequence[str]) -> None:
    name = st.selectbox("Run", names, key="label_run", format_func=lambda n: words.plain(n, 50))
    a, b = st.columns(2)
    latents = int(a.number_input("Latents at most", 1, 100_000, 200, 50, key="label_latents") or 200)
    price = float(
        b.number_input("Price of a million tokens", 0.0, 1000.0, 0.0, 0.5, key="label_price") or 0.0
    )
    budget = TOKENS_A_LABEL * latents
    cost = f", at most {budget / 1e6 * price:,.2f} at this price" if price else ""
    st.markdown(
        f"The most severe changed latents, {latents:,} at most: about {budget:,} tokens{cost}. No more than that "
        "is spent; what was paid for before is not asked again."
    )
    names_server = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")
    server = bool(os.environ.get("OPENAI_MODEL") and names_server)
    if not server:
        st.info(
            "Name the model and its server in the environment of the dashboard (OPENAI_MODEL, OPENAI_BASE_URL, "
            "OPENAI_API_KEY), and start it again.",
            icon=":material/key:",
        )
    st.button(
        "Label now",
        type="primary",
        key="label_now",
        disabled=not server,
        on_click=jobs.label_now,
        args=(folder, name, latents, budget),
    )
