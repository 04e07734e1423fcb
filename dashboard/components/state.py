"""Which run and which latent; going from page to page without losing either."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitAPIException

from mneme._util.errors import MnemeError
from mneme.store.queries import quality
from mneme.store.queries.runs import run_names
from mneme.store.run import Run, open_run

STAGE_OF = {
    "harvest": "reading both models",
    "crosscoder": "training the crosscoder",
    "attribution": "measuring the latents",
    "interpretation": "gathering where latents fire",
    "labels": "naming the latents",
    "effects": "predicting effects",
    "findings": "grouping what changed",
}


def runs_folder() -> Path:
    """Where the runs lie: MNEME_RUNS, else ./runs."""
    return Path(os.environ.get("MNEME_RUNS", "runs")).resolve()


def choose_run() -> None:
    """The sidebar's list of runs, bound to ?run=."""
    names = run_names(runs_folder())
    asked = st.query_params.get("run")
    if not names:
        return
    if st.session_state.get("run") not in names and asked not in names:
        preferred = os.environ.get("MNEME_RUN")
        st.session_state["run"] = preferred if preferred in names else names[0]
    st.sidebar.selectbox(
        "Run",
        names,
        index=None,
        required=True,
        label_visibility="collapsed",
        key="run",
        bind="query-params",
        help="One analysis: a pair of models compared. The page Runs makes new ones.",
    )
    if asked and asked not in names:
        st.sidebar.warning("The run named in the link is not in this folder; another one is shown.")


def current_run() -> Run | None:
    """The chosen run, opened; None when there is none or it can't be read (then the page says so)."""
    name = st.session_state.get("run")
    if name not in run_names(runs_folder()):
        return None
    try:
        return open_run(runs_folder() / name)
    except MnemeError:
        return None


def need_run(title: str, *stages: str) -> Run:
    """The chosen run. Where it, or a stage, is missing, the page (`title`) ends here, saying what makes it."""
    run = current_run()
    if run is None:
        st.title(title)
        _no_run()
        st.stop()
    missing = [s for s in stages if s not in quality.finished_stages(run)]
    if missing:
        st.title(title)
        st.info(
            f"This page needs the stage **{missing[0]}** ({STAGE_OF[missing[0]]}), which this run does not "
            "have yet. A run goes on from where it stopped:",
            icon=":material/hourglass_empty:",
            title="Not there yet",
        )
        st.code(run_again(run), language=None, wrap_lines=True)
        st.caption("Or start it again on the page Runs.")
        st.stop()
    return run


def run_again(run: Run, out: str = "", *more: str) -> str:
    """A command line that goes on with a run, or with `out` makes another beside it; to be shown as code."""
    folder = run.path.resolve()  # whole: the terminal may stand anywhere
    target = folder.with_name(out) if out else folder
    return shlex.join(["mneme", "run", str(folder / "run.toml"), "--out", str(target), *more])


def _no_run() -> None:
    name = st.session_state.get("run")
    if name:
        try:
            open_run(runs_folder() / name)
        except MnemeError as error:
            st.error("This run can't be read.", icon=":material/error:")
            st.code(str(error), language=None, wrap_lines=True)
            return
    st.info(
        "There is no run in this folder yet. Start one on the page **Runs**, or in a terminal:",
        icon=":material/inbox:",
        title="Nothing to show",
    )
    st.code("mneme demo", language=None)


def open_latent(latent: int) -> None:
    """Go to a latent's page; a callback."""
    st.session_state["latent"] = latent
    go("app_pages/latent.py", latent=str(latent))


def go(page: str, **parameters: str) -> None:
    """Switch to a page; a callback. `parameters` come into the URL beside those bound to widgets.

    Streamlit refuses to clear or set parameters that are bound to widgets of the page one is on. Those it is
    not given stay with their widgets, which write them again on the next page; and a parameter that is bound
    here already means that the page is the one asked for.
    """
    with contextlib.suppress(StreamlitAPIException):
        st.switch_page(page, query_params=parameters)
