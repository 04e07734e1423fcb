"""Choose a run, start a new one, follow it, cancel it."""

import pandas as pd
import streamlit as st

from dashboard.components import dry_run, forecast, jobs, narrow, runs_actions, state, tables, words
from mneme.store.queries.runs import list_runs

folder = state.runs_folder()
st.title("Runs")


@st.fragment(run_every=2.0)
def working() -> None:
    """Runs under way, read from their files every two seconds: a reload or a restart changes nothing."""
    for job in jobs.under_way(folder):
        with st.container(border=True):
            head, button = st.columns([5, 1], vertical_alignment="center")
            head.markdown(f"**{words.markdown(job.name, 60)}** · {job.state}")
            if job.state == "running":
                button.button(
                    "Cancel",
                    key=f"cancel_{job.name}",
                    on_click=jobs.cancel,
                    args=(folder, job.name),
                    width="stretch",
                )
            else:
                button.button(
                    "Resume",
                    key=f"resume_{job.name}",
                    on_click=jobs.resume,
                    args=(folder, job.name),
                    width="stretch",
                    help="Go on from where it stopped.",
                )
                button.button(
                    "Dismiss",
                    key=f"dismiss_{job.name}",
                    on_click=jobs.dismiss,
                    args=(folder, job.name),
                    width="stretch",
                )
            for task in job.tasks:
                st.progress(
                    task.share,
                    text=f"{words.markdown(task.name, 40)} · {task.done_text} {words.markdown(task.note, 60)}",
                )
            if job.error:
                st.error("It stopped. What it said:", icon=":material/error:")
                st.code(words.plain(job.error, 500), language=None, wrap_lines=True)
            if job.log:
                with st.expander("Log"):
                    st.code(job.log, language=None, wrap_lines=True)

    for place, name in enumerate(jobs.waiting(folder), start=1):
        with st.container(border=True):
            head, button = st.columns([5, 1], vertical_alignment="center")
            head.markdown(f"**{words.markdown(name, 60)}** · waits, number {place} in the queue")
            button.button(
                "Remove", key=f"remove_{name}", on_click=jobs.withdraw, args=(folder, name), width="stretch"
            )


working()

entries = list_runs(folder)
if entries:
    shown = pd.DataFrame(
        {
            "run": [words.plain(e.name, 50) for e in entries],
            "state": [jobs.state_text(folder, e) for e in entries],
            "base": [words.plain(e.facts.get("base"), 44) for e in entries],
            "tuned": [words.plain(e.facts.get("tuned"), 44) for e in entries],
            "latents": [words.count(e.facts.get("latents")) for e in entries],
            "tokens": [words.count(e.facts.get("n_tokens")) for e in entries],
            "made": [words.plain((e.facts.get("created_at") or "")[:16]).replace("T", " ") for e in entries],
        }
    )
    names = [e.name for e in entries]

    def chosen() -> None:
        row = tables.picked("runs_table", len(entries))
        if row is not None and entries[row].stages:
            st.session_state["run"] = names[row]
            st.session_state["latent"] = None
            state.go("app_pages/overview.py")

    st.caption("Click a row to open the run.")
    st.dataframe(
        shown,
        key="runs_table",
        hide_index=True,
        height="content",
        on_select=chosen,
        selection_mode=tables.ROW,
        column_config={
            "base": st.column_config.TextColumn(width=190),
            "tuned": st.column_config.TextColumn(width=190),
        },
        alt="Runs in this folder",
    )
    for entry in entries:
        if entry.state == "unreadable":
            st.error(f"{words.markdown(entry.name, 60)} can't be read.", icon=":material/error:")
            st.code(words.plain(entry.error, 400), language=None, wrap_lines=True)
    runs_actions.actions(folder, entries)
else:
    st.info(
        "No run in this folder yet. Start the first one below, or run `mneme demo` in a terminal.",
        icon=":material/inbox:",
    )

st.subheader("Start a new run")
with st.form("new_run", border=True):
    one, two = st.columns(2)
    name = one.text_input(
        "Name",
        key="new_name",
        max_chars=60,
        placeholder="my-run",
        help="The run's folder: letters, digits, - _ and dots.",
    )
    corpus = two.text_input(
        "Text to read",
        value="bundled",
        key="new_corpus",
        max_chars=300,
        help="bundled, a file inside the runs folder, or hf:NAME.",
    )
    base = one.text_input(
        "Base model",
        value="bundled:base",
        key="new_base",
        max_chars=300,
        help="Hub id, a folder inside the runs folder, or bundled:base.",
    )
    tuned = two.text_input(
        "Tuned model",
        value="bundled:tuned",
        key="new_tuned",
        max_chars=300,
        help="Hub id, a folder inside the runs folder, or bundled:tuned.",
    )
    a, b, c, d = narrow.stacking("new_run", abreast=2).columns(4)
    layer = a.number_input(
        "Layer",
        value=None,
        min_value=0,
        step=1,
        key="new_layer",
        placeholder="auto",
        help="The residual stream after this layer is read. auto: from the middle on, the earliest that holds 90 % of "
        "the difference of the predictions, by a profile of all layers made before.",
    )
    latents = b.number_input(
        "Latents",
        value=4096,
        min_value=16,
        max_value=1_048_576,
        step=1024,
        key="new_latents",
        help="Size of the dictionary.",
    )
    k = c.number_input(
        "Active a token",
        value=32,
        min_value=1,
        max_value=4096,
        key="new_k",
        help="k: latents active on a token, on average.",
    )
    tokens = d.number_input(
        "Tokens at most",
        value=None,
        min_value=1000,
        step=10_000,
        key="new_tokens",
        placeholder="all of the text",
    )
    load = st.text_input(
        "Load a crosscoder instead of training one",
        key="new_load",
        max_chars=300,
        placeholder="hub id, or a folder inside the runs folder",
        help="A trained crosscoder of the same layer and width; its own size is used.",
    )
    conflict, replace = st.session_state.get("new_conflict"), False
    if conflict is not None:
        st.warning(
            f"{words.markdown(conflict[0], 60)} has finished with other settings. Give another name, or replace it: "
            "what was made from the settings that differ, and all after it, is then made again.",
            icon=":material/warning:",
        )
        rows = [[words.plain(part, 60) for part in row] for row in conflict[1]]
        st.dataframe(
            pd.DataFrame(rows, columns=["setting", "there", "now"]),
            hide_index=True,
            height="content",
            alt="Settings that differ",
        )
        replace = st.checkbox(f"Replace {words.markdown(conflict[0], 60)}", key="new_replace")
    with st.container(horizontal=True, vertical_alignment="center"):
        started = st.form_submit_button("Start", type="primary", icon=":material/play_arrow:")
        estimated = st.form_submit_button(
            "Estimate", icon=":material/timer:", help="Time and disk, before starting."
        )
        checked = st.form_submit_button(
            "Check",
            icon=":material/checklist:",
            help="Load both models and check all that the run would, before starting: as mneme run --dry-run.",
        )
    if estimated:
        expected = forecast.forecast(folder, base, tuned, tokens, int(latents or 4096), int(k or 32))
        st.info(expected.sentence(), icon=":material/timer:")
        if expected.disk is not None and expected.disk > expected.free:
            st.warning("The disk has too little room for it.", icon=":material/hard_drive:")
    if started or checked:
        request = jobs.Request(
            name, base, tuned, corpus, layer, int(latents or 4096), int(k or 32), tokens, load
        )
        problem = jobs.problem_with(folder, request)
        if problem:
            st.error(problem, icon=":material/error:")
        elif checked:
            with st.spinner("Loading the models …"):
                answer = dry_run.dry_run(folder, request)
            if answer.fine:
                st.success(words.markdown(answer.text, 500), icon=":material/check:")
            else:
                st.error(words.markdown(answer.text, 500), icon=":material/error:")
        else:
            lost = jobs.would_replace(folder, request)
            asked = replace and conflict is not None and conflict[0] == request.name
            if lost and not asked:
                st.session_state["new_conflict"] = (request.name, lost)
            else:
                st.session_state.pop("new_conflict", None)
                jobs.start(folder, request, replace=asked)
            st.rerun()
st.caption(
    "It runs in the background, in its own process: closing this page or stopping the dashboard does not stop it. "
    "While one runs, others wait in the queue, in files of the runs folder."
)
