"""Cards of what has been tested of a run: each says its numbers, or that it runs, or the command that tests it."""

from __future__ import annotations

import streamlit as st

from dashboard.components import narrow, theme, words
from mneme.causal.patching_sentences import joint_sentences
from mneme.power.summary import sentence
from mneme.report import collect, read_out, stability
from mneme.store.queries import causal, quality
from mneme.store.queries.evidence_parts import DONE, NOT_TESTED, RUNNING, WAITING
from mneme.store.run import Run

_BADGES: dict[str, tuple[str, theme.BadgeColour]] = {
    DONE: (":material/check:", "green"),
    RUNNING: (":material/sync:", "blue"),
    WAITING: (":material/schedule:", "gray"),
    NOT_TESTED: (":material/remove:", "yellow"),
}


def cards(run: Run) -> None:
    """A card a part of `mneme evidence`, but the layer profile, and one of the power that every run measures."""
    states = run.evidence()
    parts = states[states["part"] != "layers"].to_dict("records")
    told = [
        (row["title"], row["tells"], row["state"], row["note"], row["command"], row["part"]) for row in parts
    ]
    power = DONE if len(quality.power(run)) else NOT_TESTED
    command = f"mneme power {run.path}"
    told.append(
        (
            "Power",
            "What the run could have found: changes of known sizes, added and looked for",
            power,
            "",
            command,
            "control",
        )
    )
    for start in range(0, len(told), 3):
        row = narrow.stacking(f"evidence_{start}").columns(3)
        for column, card in zip(row, told[start : start + 3], strict=False):
            with column.container(border=True, height="stretch", gap="xsmall"):
                _card(run, *card)


def any_running(run: Run) -> bool:
    """Whether the job works on the run."""
    return bool(run.evidence()["state"].isin([RUNNING, WAITING]).any())


def _card(run: Run, title: str, tells: str, state: str, note: str, command: str, part: str) -> None:
    icon, colour = _BADGES[state]
    st.markdown(f"**{words.markdown(title, 60)}**")
    st.badge(state, icon=icon, color=colour)
    st.caption(words.markdown(tells, 120))
    if state == DONE:
        for text in _NUMBERS[part](run):
            st.markdown(words.markdown(text, 500))
        return
    if note:
        st.caption(words.markdown(note, 300))
    if state == NOT_TESTED:
        st.code(command, language=None, wrap_lines=True)


def _causal(run: Run) -> list[str]:
    found = joint_sentences(causal.together(run))
    each = causal.every_latent(run)
    n = each["latent"].nunique()
    return [*found[:1], f"{words.number_of(n, 'latent')} patched one by one: the page Latent shows each."]


def _readout(run: Run) -> list[str]:
    return [words.markdown(read_out.sentence(found), 400) for found in read_out.read_outs(run)]


def _seeds(run: Run) -> list[str]:
    told = stability.sentence(collect.health(run))
    share = words.percent(quality.mean_stability(run))
    return [
        told or f"A live latent is found again in {share} of the dictionaries of other seeds, on average."
    ]


def _nulls(run: Run) -> list[str]:
    return [
        f"{words.plain(row['kind'], 60)}: {words.count(row['n_false'])} of {words.count(row['n'])} latents called"
        f" changed ({words.percent(row['rate'])})."
        for row in quality.nulls(run).to_dict("records")
    ]


def _power(run: Run) -> list[str]:
    found = []
    for row in quality.power_retrained(run).to_dict("records"):
        size = "No displacement" if row["size"] == 0 else f"Displaced by {row['size']:.2g} of typical"
        verdict = "found" if row["found"] else "not found"
        found.append(
            f"{size} in half of {words.plain(row['name'], 40)}: {verdict}, {words.count(row['called'])} latents called,"
            f" the nearest with cosine {row['cosine']:.2f}."
        )
    return found


def _control(run: Run) -> list[str]:
    return [sentence(quality.power(run))]


_NUMBERS = {
    "causal": _causal,
    "readout": _readout,
    "seeds": _seeds,
    "nulls": _nulls,
    "power": _power,
    "control": _control,
}
