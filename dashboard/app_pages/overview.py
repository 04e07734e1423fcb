"""What changed, what moved, how sure, what to look at first: one screen."""

import streamlit as st

from dashboard.components import charts, findings, narrow, plots, review, state, tables, theme, words
from mneme._util.vocabulary import CHANGED, LATENT_SIGNS
from mneme.store.queries import effects as effect_queries
from mneme.store.queries import findings as finding_queries
from mneme.store.queries import latents as latent_queries
from mneme.store.queries import overview, quality
from mneme.store.queries.latents import LatentFilter
from mneme.verdict.calls import calls_sentence

run = state.need_run("What did the tuning change?", "attribution")
sentence = run.info().get("verdict_sentence")
effects = effect_queries.effects(run) if "effects" in quality.finished_stages(run) else None
counts = latent_queries.verdict_counts(run)
live = sum(n for verdict, n in counts.items() if verdict != "dead")
status = quality.status_counts(run)

st.title("What did the tuning change?")
if sentence:
    st.markdown(f"#### {words.markdown(sentence, 2000)}")
    fared = calls_sentence(effects["call"].dropna()) if effects is not None else ""
    if fared:
        st.caption(words.markdown(fared, 400), help=theme.HELP["calls"])
else:
    st.caption(
        "This run has no verdict yet, or one that an earlier mneme made and this one does not stand by: "
        "`mneme run RUN/run.toml --out RUN` makes it."
    )

cells = [
    (
        f"{LATENT_SIGNS[verdict]} {verdict.capitalize()}",
        words.count(counts[verdict]),
        f"{words.percent(counts[verdict] / max(1, live))} of live",
        theme.HELP["verdict"],
    )
    for verdict in (*CHANGED, "uncertain", "unchanged")
]
if effects is not None:
    moved = effects["verdict"].isin(["degraded", "improved"]).sum()
    known = (effects["verdict"] != "not known").sum()
    cells.append(
        (
            "Areas moved",
            f"{moved} of {len(effects)}",
            f"{known} decided",
            theme.HELP["area_verdict"],
        )
    )
failed, remarks = status.get("fail", 0), status.get("warn", 0)
cells.append(
    (
        "Health",
        words.number_of(failed, "problem") if failed else "Usable" if remarks else "Fine",
        words.number_of(remarks, "remark"),
        "Whether the run can be trusted: the checks of the page Health.",
    )
)
with st.container(horizontal=True, gap="small"):  # wraps on a narrow screen
    for name, value, note, meaning in cells:
        st.metric(
            name,
            value,
            delta=note,
            delta_color="off",
            delta_arrow="off",
            help=meaning,
            border=True,
        )

if "findings" in quality.finished_stages(run):
    found = finding_queries.findings(run)
    held, changed = finding_queries.latents_changed(run)
    if not found.empty:
        st.subheader("Findings", help=findings.HELP)
        st.html(findings.cards_html(found))
        beyond = (
            f" {len(found) - findings.MOST} smaller findings are in the report."
            if len(found) > findings.MOST
            else ""
        )
        st.caption(
            f"{held:,} of {changed:,} changed latents belong to a finding; the others stay single.{beyond}"
        )

first, second, third = narrow.stacking("overview", abreast=2).columns([1, 1, 1.1], gap="medium")
with first:
    st.subheader("Which model uses it", help=theme.HELP["delta_norm"])
    plots.norms(run, LatentFilter(), key="overview_norms", height=230, leave=True)
    st.html(theme.legend())
with second:
    st.subheader("How much each contains", help=theme.HELP["beta"])
    plots.betas(run, LatentFilter(), key="overview_betas", height=230, most=charts.MAX_SHAPES, leave=True)
with third:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.subheader("Subject areas", help=f"{theme.HELP['effect']} Click a bar to open the area.")
        st.button(
            "All areas",
            type="tertiary",
            icon=":material/balance:",
            key="overview_all_areas",
            on_click=state.go,
            args=("app_pages/side_effects.py",),
        )
    if effects is None or effects.empty:
        st.info("Predicted by the stage `effects`.", icon=":material/hourglass_empty:")
    elif (effects["effect"] == 0).all():
        st.info("No changed latent fires in any area: every predicted effect is 0.", icon=":material/check:")
    else:
        plots.areas(effects, key="overview_areas", height=230, limit=7, leave=True)
        st.html(theme.effect_legend())
dead = f" Dead latents ({counts['dead']:,}) are not drawn." if counts["dead"] else ""
severe = overview.look_at_first(run)
said = review.reviewed(review.reviews(run))
heading, begin = st.columns([3, 1.1], vertical_alignment="bottom")
heading.subheader(
    "Look at these first",
    help=f"{theme.HELP['severity']} Drag across the histogram to list the latents there, click a point to open its "
    f"latent.{dead}",
)
begin.button(
    f"Go on reviewing ({len(said):,} done)" if said else "Review them one by one",
    icon=":material/checklist:",
    key="overview_review",
    width="stretch",
    on_click=state.go,
    args=("app_pages/review.py",),
    help="The page Review: every changed latent in turn, with your verdicts, notes and tags; the report has them.",
)
if severe.empty:
    st.info("No latent is called changed: see how many are uncertain.", icon=":material/info:")
else:
    measured = ["stability"] if severe["stability"].notna().any() else []
    tables.latent_table(
        severe,
        [
            *["latent", "verdict", "label", "category", "log_ratio", "interval", *measured],
            *["q_value", "firing_rate", "nll_change"],
        ],
        key="overview_first",
        height="content",
        alt="The most severe changed latents",
    )
