"""Reviewing: what holds now, the buttons and keys of a latent's review, the columns tables show of it."""

from __future__ import annotations

import getpass
import os
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import theme, words
from mneme._util.errors import MnemeError
from mneme.analyst import VERDICTS, Change, History, Review, fold, review_status
from mneme.analyst.reviews import last_action
from mneme.store.queries import triage
from mneme.store.run import Run

SAID = {"accept": "Accepted", "reject": "Rejected", "needs-work": "Needs work"}
NAMES = {"accept": "Accept", "reject": "Reject", "needs-work": "Needs work"}
MEANING = {
    "accept": "A finding: what is said of this latent holds.",
    "reject": "No finding: an artefact, noise, or wrongly labelled beyond repair.",
    "needs-work": "To be looked at again.",
}
EDITED = " ✎"
"""Behind a label that the analyst wrote."""
_PROBLEM = "review_problem"


@st.cache_data(max_entries=8, show_spinner=False)
def _changes(folder: str, stamp: tuple[int, ...]) -> list[Change]:
    return History(folder).changes()


def changes(run: Run) -> list[Change]:
    """The history of the run's reviews; where it can't be read, none, and the page says so."""
    history = History(run.path)
    try:
        return _changes(str(run.path), history.stamp())
    except MnemeError as error:
        st.session_state[_PROBLEM] = str(error)
        return []


def reviews(run: Run) -> dict[int, Review]:
    """Latent -> its review."""
    return {latent: review for latent, review in fold(changes(run)).items() if latent is not None}


def has_own_label(run: Run, latent: int) -> bool:
    """Whether the analyst's label stands in place of the automatic one."""
    return bool(reviews(run).get(latent, Review(latent)).label)


def reviewed(found: dict[int, Review]) -> list[int]:
    """Latents with a review verdict."""
    return [latent for latent, review in found.items() if review.verdict]


def author() -> str:
    """Who reviews in this session: the name given on the page Review, else the account's."""
    return str(st.session_state.get("analyst") or default_author())


def default_author() -> str:
    """$MNEME_ANALYST, else the name of the account that runs the dashboard."""
    try:
        return os.environ.get("MNEME_ANALYST") or getpass.getuser()
    except (KeyError, OSError):
        return "analyst"


def show_problem() -> None:
    """Say what could not be read or written, once."""
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error("The review could not be read or written.", icon=":material/error:")
        st.code(problem, language=None, wrap_lines=True)


def add_columns(frame: pd.DataFrame, found: dict[int, Review]) -> pd.DataFrame:
    """The frame with `review`, and with the analyst's labels, marked, in place of the automatic ones."""
    own = [found.get(int(latent)) for latent in frame["latent"]]
    frame = frame.assign(review=[review_status(r.verdict, r.bookmark) if r else "" for r in own])
    if "label" in frame:
        frame["label"] = [
            f"{words.plain(r.label, 86)}{EDITED}" if r and r.label else label
            for r, label in zip(own, frame["label"], strict=True)
        ]
    return frame


def panel(run: Run, latent: int, label: str) -> None:
    """The latent's label as a heading, and everything that reviews it. `label`: the automatic one, escaped."""
    log = changes(run)
    found = {k: review for k, review in fold(log).items() if k is not None}
    review = found.get(latent, Review(latent))
    heading = f"{words.markdown(review.label, 140)} :gray-badge[✎ edited]" if review.label else label
    show_problem()
    with st.container(key="review_bar", gap="xsmall"):  # page.css keeps it in sight
        st.markdown(f"### {heading}")
        _buttons(run, review, label, log, found)
        _said(review, label, triage.progress(run, reviewed(found)))


def _buttons(run: Run, review: Review, label: str, log: list[Change], found: dict[int, Review]) -> None:
    latent = int(review.latent or 0)
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        for key, verdict in enumerate(VERDICTS, start=1):
            _button(
                NAMES[verdict],
                theme.REVIEW_ICON[verdict],
                str(key),
                _say,
                (run, latent, {"verdict": verdict}),
                primary=review.verdict == verdict,
                help=MEANING[verdict],
            )
        _button(
            "Clear",
            ":material/backspace:",
            "4",
            _say,
            (run, latent, {"verdict": ""}),
            help="Take the verdict back.",
        )
        _button(
            "Bookmark",
            ":material/bookmark:",
            "B",
            _say,
            (run, latent, {"bookmark": not review.bookmark}),
            primary=review.bookmark,
        )
        # Of another key when what it holds is saved or another latent is shown: it closes.
        with st.popover("Notes", icon=":material/edit_note:", key=f"notes_{_stamp(review)}"):
            _form(run, review, label, sorted({tag for r in found.values() for tag in r.tags}))
        undoable = last_action(log, latent, author()) is not None
        _button("Undo", ":material/undo:", "U", _undo, (run, latent), disabled=not undoable)
        follow = triage.following(run, {*reviewed(found), latent})
        _button(
            "Next to do",
            ":material/checklist:",
            "N",
            _show,
            (follow,),
            disabled=follow is None,
            help="The first of the queue that has no verdict yet.",
        )


def _button(
    name: str,
    icon: str,
    shortcut: str,
    do: Any,
    args: tuple[Any, ...],
    *,
    primary: bool = False,
    disabled: bool = False,
    help: str | None = None,
) -> None:
    st.button(
        name,
        icon=icon,
        shortcut=shortcut,
        key=f"review_{shortcut}",
        on_click=do,
        args=args,
        type="primary" if primary else "secondary",
        disabled=disabled,
        help=help,
    )


def _stamp(review: Review) -> str:
    """What is shown is part of the form's keys: a latent's form starts from what holds now."""
    return f"{review.latent}_{abs(hash((review.note, review.tags, review.label)))}"


def _form(run: Run, review: Review, automatic: str, tags: list[str]) -> None:
    stamp = _stamp(review)
    with st.form(f"review_form_{stamp}", border=False):
        st.text_area("Note", review.note, key=f"note_{stamp}", max_chars=2000, height=90)
        st.multiselect(
            "Tags",
            sorted({*tags, *review.tags}),
            default=list(review.tags),
            key=f"tags_{stamp}",
            accept_new_options=True,
            format_func=lambda tag: words.plain(tag, 40),
        )
        st.text_input(
            "Label of your own",
            review.label,
            key=f"label_{stamp}",
            max_chars=140,
            placeholder="empty: the automatic label holds",
        )
        st.caption(f"Automatic: {automatic}")
        st.form_submit_button(
            "Save", icon=":material/save:", type="primary", on_click=_save, args=(run, review, stamp)
        )


def _said(review: Review, automatic: str, done: dict[str, int]) -> None:
    """What has been said of the latent, by whom and when; how far the review is."""
    far = f"{done['changed_done']:,} of {done['changed']:,} changed latents reviewed"
    if review.empty:
        st.caption(f"Not reviewed yet · {far}")
        return
    by = f"{words.markdown(review.author, 40)}, {words.markdown(review.at[:16].replace('T', ' '), 20)} UTC"
    lines = [f"**{SAID[review.verdict]}** · {by} · {far}" if review.verdict in SAID else f"{by} · {far}"]
    if review.tags:
        lines[0] += " · " + " ".join(f":gray-badge[{words.markdown(tag, 40)}]" for tag in review.tags)
    if review.label:
        lines[0] += f" · automatic label: {automatic}"
    if review.note:
        lines += [words.markdown(line, 2000) for line in review.note.splitlines()]
    st.caption("  \n".join(lines))


def _say(run: Run, latent: int, fields: dict[str, Any]) -> None:
    _written(lambda: History(run.path).add(latent, author(), **fields))


def _undo(run: Run, latent: int) -> None:
    _written(lambda: History(run.path).undo(latent, author()))


def _save(run: Run, review: Review, stamp: str) -> None:
    """Keep what the form changed, as one action."""
    before = {"note": review.note, "tags": review.tags, "label": review.label}
    fields = {}
    for name, old in before.items():
        new = st.session_state.get(f"{name}_{stamp}", old)
        new = tuple(sorted(new)) if name == "tags" else str(new or "").strip()
        if new != old:
            fields[name] = new
    if fields and review.latent is not None:
        _say(run, review.latent, fields)


def _written(write: Any) -> None:
    try:
        write()
    except MnemeError as error:
        st.session_state[_PROBLEM] = str(error)


def _show(latent: int | None) -> None:
    if latent is not None:
        st.session_state["latent"] = latent
