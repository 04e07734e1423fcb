"""What changed, what moved, how sure, what to look at first: one screen."""

import streamlit as st

from dashboard.components import charts, looks, plots, state, tables, words
from mneme.store.queries import effects as effect_queries
from mneme.store.queries import latents as latent_queries
from mneme.store.queries import overview, quality

run = state.need_run("attribution")
info = run.info()
done = quality.finished_stages(run)

st.title("What did the tuning change?")
sentence = info.get("verdict_sentence")
if sentence:
    st.markdown(f"#### {words.markdown(sentence, 600)}")
else:
    st.caption("The verdict is written by the stage `effects`, which this run does not have yet.")

counts = latent_queries.verdict_counts(run)
live = sum(n for v, n in counts.items() if v != "dead")
status = quality.status_counts(run)
worst = "fail" if status.get("fail") else "warn" if status.get("warn") else "ok"
with st.container(horizontal=True, gap="small"):
    for verdict in ("amplified", "suppressed", "uncertain"):
        st.metric(
            f"{looks.VERDICT_SIGN[verdict]} {verdict.capitalize()}",
            words.count(counts[verdict]),
            delta=f"{words.percent(counts[verdict] / max(1, live))} of live latents",
            delta_color="off",
            delta_arrow="off",
            help=looks.HELP["verdict"],
            border=True,
        )
    st.metric(
        "● Unchanged",
        words.count(counts["unchanged"]),
        delta=f"of {live:,} live, {counts['dead']:,} dead",
        delta_color="off",
        delta_arrow="off",
        help=looks.HELP["verdict"],
        border=True,
    )
    if "effects" in done:
        effects = effect_queries.effects(run)
        moved = effects[effects["verdict"].isin(["degraded", "improved"])]
        measured = effects[effects["call"].notna()]
        right = measured["call"].isin(["hit", "agreed none"]).sum()
        st.metric(
            "Categories moved",
            f"{len(moved)} of {len(effects)}",
            delta=f"{right} of {len(measured)} as measured" if len(measured) else "not measured",
            delta_color="off",
            delta_arrow="off",
            help="Subject areas with a predicted change; below, how many predictions agree with the benchmark.",
            border=True,
        )
    st.metric(
        "Health",
        {"ok": "Fine", "warn": "Look", "fail": "Problem"}[worst],
        delta=f"{status.get('warn', 0)} warnings, {status.get('fail', 0)} failures",
        delta_color="off",
        delta_arrow="off",
        help="The checks of the page Health.",
        border=True,
    )

left, middle, right_column = st.columns([1, 1, 1.15], gap="medium")
with left:
    st.subheader("Which model uses each latent", help=looks.HELP["delta_norm"])
    plots.norms(run, latent_queries.LatentFilter(), key="overview_norms", height=330)
with middle:
    st.subheader("How much of it each contains", help=looks.HELP["beta"])
    plots.betas(run, latent_queries.LatentFilter(), key="overview_betas", height=330)
with right_column:
    st.subheader("Subject areas", help=looks.HELP["effect"])
    if "effects" in done and not effects.empty:
        st.plotly_chart(
            charts.effect_bars(effects, height=330, limit=10),
            key="overview_effects",
            config=charts.STILL,
            alt="Predicted effect of the ten most affected categories, with intervals",
        )
    else:
        st.info(
            "Predicted by the stage `effects`: `mneme run` goes on from here.",
            icon=":material/hourglass_empty:",
        )
st.caption("Drag a box on a plot to list the latents inside it; click a point to open it.")

st.subheader("Look at these first", help=looks.HELP["severity"])
first = overview.look_at_first(run)
if first.empty:
    st.info("No latent changed beyond the margin.", icon=":material/check:")
else:
    tables.latent_table(
        first,
        [
            "latent",
            "verdict",
            "label",
            "category",
            "log_ratio",
            "interval",
            "q_value",
            "firing_rate",
            "nll_change",
        ],
        key="overview_first",
        height="content",
        alt="The most severe changed latents",
    )
