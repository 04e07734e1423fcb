"""A text of one's own through both models: what fires, what they predict. Read by a worker process."""

import time

import streamlit as st

from dashboard.components import reading, state, tables, theme, words
from mneme._util.errors import MnemeError
from mneme.probe.job_files import JobFiles

LIMIT = 8000  # characters; the worker counts tokens
EXAMPLE = "The cell membrane controls which molecules enter. A virus binds to receptors on its surface."

run = state.need_run("Try text", "attribution")
job_files = JobFiles(run.path)
asked = st.query_params.get("probe") or st.session_state.get(f"probe_{run.name}") or ""
known = job_files.asked(asked) if asked else None

head, chooser = st.columns([4, 1.6], vertical_alignment="bottom")
head.title("Try text")
latent = chooser.number_input(
    "Latent to look at",
    value=None,
    min_value=0,
    step=1,
    key="latent",
    bind="query-params",
    placeholder="none: choose below",
)

with st.form("try", border=True):
    text = st.text_area(
        "Text",
        value=known.text if known else EXAMPLE,
        key=f"try_text_{asked}",
        height=120,
        max_chars=LIMIT,
        help="Kept in the run's folder (the last 30 texts), so that a link to what was read of it works.",
    )
    a, b = st.columns([1, 4], vertical_alignment="center")
    submitted = a.form_submit_button("Read", type="primary", icon=":material/play_arrow:", width="stretch")
    chat = b.toggle(
        "It is a chat",
        value=bool(known and known.chat),
        key=f"try_chat_{asked}",
        help="Lines that begin with User:, Assistant: or System: become turns of the model's chat template.",
    )
if submitted:
    if text.strip():
        try:
            asked = job_files.ask(text, chat=bool(chat))
            if job_files.answer(asked) is None:
                job_files.start_worker()
        except MnemeError as error:
            st.error("The text can't be read with this run.", icon=":material/error:")
            st.code(words.plain(str(error), 400), language=None, wrap_lines=True)
            st.stop()
        st.session_state[f"probe_{run.name}"] = asked
        st.query_params["probe"] = asked
        st.rerun()
    st.error("The text is empty: give some words.", icon=":material/error:")
if not asked or (known is None and job_files.answer(asked) is None):
    if asked and st.session_state.get("withdrawn") == asked:
        st.info("The request was taken back: nothing was read.", icon=":material/undo:")
        st.stop()
    if asked:
        st.warning("What this link shows is no longer kept. Read the text again.", icon=":material/link_off:")
    st.info(
        "Give a text above. Both models read it in a process of its own; the first time they have to be loaded, "
        "which takes a while. Nothing leaves this machine.",
        icon=":material/edit_note:",
    )
    st.stop()


def withdraw() -> None:
    """Take the request back; a callback."""
    job_files.cancel(asked)
    st.session_state["withdrawn"] = asked
    st.session_state.pop(f"probe_{run.name}", None)


@st.fragment(run_every=0.7)
def waiting() -> None:
    """Where the worker stands, from its file; at the answer the page is drawn whole."""
    if job_files.answer(asked) is not None or job_files.asked(asked) is None:
        st.rerun()
    worker = job_files.worker()
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        if worker is not None:
            since = max(0.0, time.time() - float(worker.get("since") or time.time()))
            st.markdown(
                f":material/hourglass_top: {words.markdown(worker.get('doing'), 60)} · {since:.0f} s",
                width="content",
            )
            st.button("Cancel", on_click=withdraw, key="try_cancel", icon=":material/close:")
        else:
            st.markdown(
                f":material/error: The worker ended. {words.markdown(job_files.last_words(), 300)}",
                width="content",
            )
            st.button(
                "Try again", on_click=job_files.start_worker, key="try_again", icon=":material/refresh:"
            )


answer = job_files.answer(asked)
if answer is None:
    waiting()
    st.stop()
if "error" in answer:
    st.error("The text could not be read.", icon=":material/error:")
    st.code(words.plain(answer["error"], 500), language=None, wrap_lines=True)
    st.stop()

pairs = reading.pairs_frame(answer)
found = reading.latents_frame(run, pairs)
changed = found.loc[found["changed"], "latent"].tolist()
with st.container(horizontal=True, gap="small"):
    st.metric("tokens", words.count(len(answer["tokens"])))
    st.metric("mean KL, nats", words.number(reading.mean(answer["kl"])), help=theme.HELP["kl_of_text"])
    st.metric(
        "mean NLL change, nats",
        words.number(reading.mean_change(answer), signed=True),
        help=theme.HELP["nll_change_of_text"],
    )
    st.metric("latents that fire", words.count(len(found)))
    st.metric("of them changed", words.count(len(changed)))

options = [c for c in reading.COLOURINGS if c != "latent" or latent is not None]
colouring = st.segmented_control(
    "Colour by",
    options,
    default="latent" if latent is not None else "kl",
    required=True,
    format_func=lambda name: f"Latent {latent}" if name == "latent" else reading.COLOURINGS[name],
    key=f"try_colour_{latent}",
)
fires = bool(latent is not None and (found["latent"] == latent).any())
if colouring == "latent" and not fires:
    st.info(f"Latent {latent} does not fire on this text.", icon=":material/search_off:")
else:
    shown = reading.strips(answer, pairs, colouring or "kl", latent, changed)
    if colouring == "latent":
        one = found[found["latent"] == latent].iloc[0]
        st.markdown(
            f"{reading.sign(one['verdict'])} · {words.markdown(one['label'], 100) or 'no label'} · fires on "
            f"{one['tokens']} tokens · on this text beta(b) **{words.number(one['beta_base'])}**, "
            f"beta(f) **{words.number(one['beta_tuned'])}**",
            help="How much of the latent's direction either model's own stream has where it fires, over its "
            "activation; the run's betas are the same over the whole corpus.",
        )
    for column, (caption, body) in zip(st.columns(len(shown), gap="large"), shown.items(), strict=True):
        column.caption(caption)
        column.html(body)

st.markdown(
    "**Latents that fire here**",
    help="Changed latents first. Click a row to colour the text by it.",
)


def choose() -> None:
    """Look at the chosen latent; a callback."""
    if (row := tables.picked("try_latents", len(found))) is not None:
        st.session_state["latent"] = int(found["latent"].iloc[row])


table = found.assign(
    verdict=[reading.sign(v) for v in found["verdict"]],
    label=[words.plain(t, 90) for t in found["label"]],
)
st.dataframe(
    table[["latent", "verdict", "label", "tokens", "strongest", "beta_base", "beta_tuned"]],
    key="try_latents",
    hide_index=True,
    height=300,
    on_select=choose,
    selection_mode=tables.ROW,
    column_config={
        "latent": st.column_config.NumberColumn(format="%d", width=65),
        "verdict": st.column_config.TextColumn(width=108),
        "label": st.column_config.TextColumn(width=210),
        "tokens": st.column_config.NumberColumn("tokens", width=62),
        "strongest": st.column_config.NumberColumn("strongest", format="%.3g", width=80),
        "beta_base": st.column_config.NumberColumn("beta(b) here", format="%.2f", width=92),
        "beta_tuned": st.column_config.NumberColumn("beta(f) here", format="%.2f", width=92),
    },
    placeholder="–",
    alt="Latents that fire on the text",
)
st.markdown(
    "**Token by token**",
    help="KL and NLL are of the prediction made at the token: of the token after it.",
)
names = dict(zip(found["latent"], found["label"], strict=True))
st.dataframe(
    reading.token_frame(answer, pairs, names),
    key="try_tokens",
    hide_index=True,
    height=300,
    column_config={
        "token": st.column_config.TextColumn(width=85),
        "kl": st.column_config.NumberColumn("KL", format="%.3f", width=65),
        "nll_base": st.column_config.NumberColumn("NLL base", format="%.2f", width=78),
        "nll_tuned": st.column_config.NumberColumn("NLL tuned", format="%.2f", width=82),
        "nll_change": st.column_config.NumberColumn("change", format="%+.2f", width=70),
        "strongest": st.column_config.TextColumn("strongest latents", width=440),
    },
    placeholder="–",
    alt="Every token with its KL, NLL and strongest latents",
)
