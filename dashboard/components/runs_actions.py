"""What can be done with a run of the list: go on with it, label it again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard.components import jobs, words
from mneme.interpret.clients.server import named_model
from mneme.interpret.label_config import LabelConfig
from mneme.run.label_price import price
from mneme.store.queries.runs import RunEntry
from mneme.store.run import open_run

_ROOM = 1.5  # the budget, over the estimate of the prompts: tokenizers differ


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
    server = named_model() is not None
    asked, prompt, reply = _expected(
        folder / name, (folder / name / "run.duckdb").stat().st_mtime_ns, latents
    )
    budget = math.ceil(prompt * _ROOM) + reply
    cost = f", at most {budget / 1e6 * price:,.2f} at this price" if price else ""
    st.markdown(
        f"{words.count(asked)} changed latents to ask about, the most severe first: about {prompt:,} tokens of "
        f"prompts, at most {reply:,} of replies{cost}. No more than {budget:,} are spent; what was paid for before "
        "is not asked again."
    )
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
        disabled=not server or not asked,
        on_click=jobs.label_now,
        args=(folder, name, latents, budget),
    )


@st.cache_data(max_entries=32, show_spinner=False)
def _expected(run: Path, stamp: int, latents: int) -> tuple[int, int, int]:
    """Requests, prompt tokens, most reply tokens. `stamp`: when the run was written; one that went on is read again."""
    found = price(open_run(run), LabelConfig(llm_max_latents=latents), named_model())
    return found.calls, found.prompt_tokens, found.reply_tokens
