"""Two runs side by side: matched latents, effects, and what one calls otherwise than the other."""

import time

import pandas as pd
import streamlit as st

from dashboard.components import charts, compared, curves, narrow, state, theme, words
from mneme._util.errors import MnemeError
from mneme._util.vocabulary import CHANGED, LATENT_SIGNS
from mneme.compare.cache import CompareFile
from mneme.store.queries import compare as queries
from mneme.store.queries import quality
from mneme.store.queries.runs import run_names
from mneme.store.run import open_run

KINDS = {
    "changes": "Verdict differs",
    "called": "Called by either",
    "alone": "Changed, not found again",
    "all": "All",
}
NAMES = {"n_tokens": "tokens"}

run = state.need_run("Compare", "attribution")
others = [name for name in run_names(state.runs_folder()) if name != run.name]
head, chooser = st.columns([3, 1.6], vertical_alignment="bottom")
head.title("Compare")
if not others:
    st.info(
        "There is only one run in this folder. Make another (another layer, seed or tune) on the page **Runs**, or in "
        "a terminal:",
        icon=":material/inbox:",
        title="Nothing to compare with",
    )
    st.code(
        state.run_again(run, f"{run.name}-seed-1", "--set", "crosscoder.seed=1"),
        language=None,
        wrap_lines=True,
    )
    st.stop()
asked = st.query_params.get("with")
if st.session_state.get("with") not in others and asked not in others:
    st.session_state["with"] = others[0]
name = chooser.selectbox(
    "Compared with",
    others,
    index=None,
    required=True,
    key="with",
    bind="query-params",
    help="The second run.",
)
if asked and asked not in others:
    st.warning("The second run named in the link is not in this folder.", icon=":material/link_off:")
try:
    other = open_run(state.runs_folder() / str(name or others[0]))
    missing = "attribution" not in quality.finished_stages(other)
except MnemeError as error:
    st.error("The second run can't be read.", icon=":material/error:")
    st.code(words.plain(str(error), 400), language=None, wrap_lines=True)
    st.stop()
if missing:
    st.info(
        "The second run has no verdicts yet. It goes on from where it stopped:",
        icon=":material/hourglass_empty:",
        title="Not there yet",
    )
    st.code(f"mneme run {other.name}/run.toml --out {other.name}", language=None)
    st.stop()

facts = [run.info(), other.info()]
differing = [f for f in queries.FACTS if facts[0].get(f) != facts[1].get(f)]
same = [f for f in queries.FACTS if f not in differing]
st.html(
    "<div style='font-size:0.88rem'>"
    + "<br>".join(
        f"<b>{sign}</b> {words.html(each.name, 50)}"
        + (": " if differing else "")
        + ", ".join(f"{NAMES.get(key, key)} <b>{words.html(fact.get(key, '–'), 44)}</b>" for key in differing)
        for sign, each, fact in (("A", run, facts[0]), ("B", other, facts[1]))
    )
    + (
        f"<br><span style='opacity:.65'>the same in both: {', '.join(NAMES.get(key, key) for key in same)}</span>"
        if same
        else ""
    )
    + "</div>"
)

if beware := queries.other_layers(run, other):
    st.warning(words.markdown(beware, 300), icon=":material/layers:")

kept = CompareFile(run.path, other.path)


@st.fragment(run_every=0.7)
def waiting() -> None:
    """The process that matches the latents, followed through its file."""
    now = kept.state()
    if kept.read() is not None:
        st.rerun()
    if "error" in now:
        st.error("The latents could not be matched.", icon=":material/error:")
        st.code(words.plain(now["error"], 500), language=None, wrap_lines=True)
        st.button("Try again", on_click=retry, icon=":material/refresh:", key="compare_again")
    elif not now:
        st.rerun()
    else:
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            since = max(0.0, time.time() - float(now.get("since") or time.time()))
            st.markdown(
                f":material/hourglass_top: Matching the latents of both runs · {since:.0f} s", width="content"
            )
            st.button("Cancel", on_click=stop, icon=":material/close:", key="compare_cancel")


def retry() -> None:
    """Start again after a failure; a callback."""
    kept.state_file.unlink(missing_ok=True)
    kept.start()


def stop() -> None:
    """End the matching, and don't start it by itself again; a callback."""
    kept.cancel()
    st.session_state["compare_stopped"] = str(kept.file)


st.subheader(
    "Effects",
    help="Predicted effect of each category, both runs' verdicts, in the order of the larger effect.",
)
effects = queries.both_effects(run, other)
if effects.empty:
    st.caption("Neither run has effects: the stage effects makes them.")
else:
    left, right = narrow.stacking("compare_effects").columns([1, 1.4], gap="large")
    with left:
        st.plotly_chart(
            curves.two_effects(effects, words.plain(run.name, 24), words.plain(other.name, 24)),
            key="compare_effects",
            config=charts.STILL,
            alt="Predicted effects of either run, category by category",
        )
    with right:
        n = int(effects["change"].sum())
        both = int((effects["verdict"].notna() & effects["verdict_other"].notna()).sum())
        st.markdown(f"**{n}** of {both} categories have another verdict; they stand first")
        shown = effects.assign(
            name=[words.plain(t, 44) for t in effects["name"]],
            a=[
                f"{theme.EFFECT_SIGN.get(v, '')} {v}" if isinstance(v, str) else "–"
                for v in effects["verdict"]
            ],
            b=[
                f"{theme.EFFECT_SIGN.get(v, '')} {v}" if isinstance(v, str) else "–"
                for v in effects["verdict_other"]
            ],
        ).sort_values("change", ascending=False, kind="stable")
        st.dataframe(
            shown[["name", "effect", "effect_other", "a", "b"]],
            hide_index=True,
            height=300,
            column_config={
                "name": st.column_config.TextColumn("category", width=150),
                "effect": st.column_config.NumberColumn("effect A", format="%.2f", width=70),
                "effect_other": st.column_config.NumberColumn("effect B", format="%.2f", width=70),
                "a": st.column_config.TextColumn("A", width=98),
                "b": st.column_config.TextColumn("B", width=98),
            },
            placeholder="–",
            alt="Verdicts of both runs on each category",
        )

st.subheader("Latents")
comparison = kept.read()
if comparison is None:
    if st.session_state.get("compare_stopped") == str(kept.file) and not kept.state():
        st.info("The matching was stopped.", icon=":material/pause:")
        if st.button("Match the latents", icon=":material/play_arrow:", key="compare_start"):
            st.session_state.pop("compare_stopped")
            st.rerun()
        st.stop()
    if not kept.state():
        try:
            kept.start()
        except MnemeError as error:
            st.error("The two runs can't be matched here.", icon=":material/error:")
            st.code(words.plain(str(error), 400), language=None, wrap_lines=True)
            st.stop()
    waiting()
    st.stop()

found = queries.both_latents(run, other, comparison.latents)
agreed = found[found["agreed"]]
called = agreed[agreed["verdict"].isin(CHANGED)]
kind = {"decoder": "decoder cosine", "firing": "correlation of firing", "label": "likeness of labels"}[
    comparison.method
]
st.caption(f"{words.markdown(comparison.why, 200)} Matched by **{kind}**.")
with st.container(horizontal=True, gap="small"):
    st.metric(
        "Found in both",
        f"{words.count(len(agreed))} of {words.count(len(found))}",
        help="Pairs of a latent of A and its match in B; found: their likeness is over the method's threshold.",
    )
    changed = int(queries.comparable_latents(run)["verdict"].isin(CHANGED).sum())
    st.metric(
        "A's changed latents found in B",
        f"{words.count(len(called))} of {words.count(changed)}",
        help="Changed: amplified, suppressed or redirected in A.",
    )
    st.metric(
        "of these, the same verdict in B",
        f"{words.count(int((~called['change']).sum()))} of {words.count(len(called))}",
    )

left, right = narrow.stacking("compare_latents").columns([1.4, 1.5], gap="large")
with left:
    st.markdown("**Verdicts of those found in both**", help="Rows: run A. Columns: run B.")
    order = [v for v in LATENT_SIGNS if v in set(agreed["verdict"]) | set(agreed["verdict_other"])]
    crossed = pd.crosstab(agreed["verdict"], agreed["verdict_other"]).reindex(
        index=order, columns=order, fill_value=0
    )
    crossed.index = pd.Index([f"{LATENT_SIGNS[v]} {v}" for v in order], name="A \\ B")
    crossed.columns = pd.Index([f"{LATENT_SIGNS[v]} {v}" for v in order])
    if agreed.empty:
        st.caption("No latent is found in both runs.")
    else:
        st.dataframe(
            crossed,
            height="content",
            column_config={name: st.column_config.NumberColumn(width=84) for name in crossed.columns},
            alt="How often each pair of verdicts occurs",
        )
with right:
    which = st.segmented_control(
        "Show",
        list(KINDS),
        default="changes",
        required=True,
        format_func=lambda k: KINDS[k],
        key="compare_kind",
        label_visibility="collapsed",
    )
    either = agreed["verdict"].isin(CHANGED) | agreed["verdict_other"].isin(CHANGED)
    called_at_all = found["verdict"].isin(CHANGED) | found["verdict_other"].isin(CHANGED)
    rows = {
        "changes": agreed[agreed["change"] & either],
        "called": agreed[either],
        "alone": found[~found["agreed"] & called_at_all],
        "all": found,
    }[which or "changes"]
    rows = rows.sort_values("severity", ascending=False, na_position="last").head(500)
    if rows.empty:
        st.info(
            "No latent is found in both runs; All lists the closest pairs."
            if agreed.empty
            else "Every changed latent is found in both."
            if which == "alone"
            else "No latent that either run calls changed is found in both: see **Changed, not found again**."
            if not either.any()
            else "Where a latent is found in both, both runs call it alike.",
            icon=":material/info:",
        )
    else:
        compared.matched(rows, kind)
