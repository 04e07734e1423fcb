"""One latent, down to its tokens."""

import streamlit as st

from dashboard.components import filters, latent_cards, narrow, patching, review, state, theme, words
from mneme._util.vocabulary import LATENT_SIGNS
from mneme.attribution.reasons import REASONS
from mneme.store.queries import latent as queries
from mneme.store.queries import latents as list_queries
from mneme.store.queries import quality

run = state.need_run("Latent", "attribution")
if st.session_state.get("latent") is None and "latent" not in st.query_params:
    st.session_state["latent"] = queries.most_severe(run)


def go(to: int | None) -> None:
    """Show another latent; a callback."""
    if to is not None:
        st.session_state["latent"] = to


top, jump, lister = st.columns([3, 1.9, 1.4], vertical_alignment="bottom")
number = jump.number_input(
    "Latent", value=None, min_value=0, step=1, key="latent", bind="query-params", placeholder="number"
)
with lister.popover("Filter", icon=":material/filter_alt:", width="stretch"):
    where = filters.filter_stack(run)
row = queries.row(run, int(number)) if number is not None else None
if row is None:
    top.title("Latent")
    st.info(
        "There is no latent of this number in the run. Latents are counted from 0.",
        icon=":material/search_off:",
    )
    st.stop()

latent, verdict, reason = int(row["latent"]), row["verdict"] or "uncertain", row["reason"]
done = quality.finished_stages(run)
labels = queries.labels(run, latent)
edited = review.has_own_label(run, latent)  # which no score tells of
label = words.markdown(labels["label"].iloc[0], 140) if len(labels) else "no label"
top.title(f"Latent {latent:,}")
# Streamlit leaves the page where the latent before was read to, and has no means to scroll. Runs when its text changes.
st.sidebar.html(
    f"<script>document.querySelector('h1')?.scrollIntoView() // latent {latent}</script>",
    unsafe_allow_javascript=True,
)

sort_name = list_queries.SORTS[filters.sort_choice()][0].lower()
place = list_queries.beside(run, where, latent, sort=filters.sort_choice())
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.button(
        "Previous",
        icon=":material/arrow_back:",
        shortcut="K",
        disabled=place["previous"] is None,
        on_click=go,
        args=(place["previous"],),
    )
    st.button(
        "Next",
        icon=":material/arrow_forward:",
        shortcut="J",
        disabled=place["next"] is None,
        on_click=go,
        args=(place["next"],),
    )
    st.button(
        "Try text",
        icon=":material/edit_note:",
        on_click=state.go,
        args=("app_pages/try_text.py",),
        help="See it on a text of your own.",
    )
    st.caption(
        f"{place['place']:,} of {place['of']:,} in the filter, by {sort_name}"
        if place["place"]
        else f"not in the filter ({place['of']:,} latents)",
        width="content",
    )
    st.badge(
        f"{LATENT_SIGNS[verdict]} {verdict}" + (f": {words.plain(reason, 40)}" if reason else ""),
        color=theme.VERDICT_BADGE[verdict],
        help=f"Uncertain: {REASONS[reason]}." if reason in REASONS else theme.HELP["verdict"],
    )
    for flag in queries.flags(run, latent):
        if flag != "unreliable label" or not edited:
            colour, meaning = theme.FLAGS[flag]
            st.badge(flag, color=colour, help=meaning)
    if row["stability"] is not None:
        of_seeds = (
            f"{words.percent(row['stability'])} of seeds find it"
            if words.missing(row["n_seeds"])
            else f"found in {words.count(row['seeds_found'])} of {words.count(row['n_seeds'])} seeds"
        )
        st.badge(
            of_seeds,
            color="orange" if row["stability"] < 0.5 else "gray",
            help=theme.HELP["stability"],
        )
review.panel(run, latent, label)

facts = [
    ("log ratio", words.number(row["log_ratio"], signed=True), "log_ratio"),
    (
        "95 % interval",
        words.bounds(row["log_ratio"], row["ci_low"], row["ci_high"]),
        "log_ratio",
    ),
    ("q", words.number(row["q_value"]), "q_value"),
    ("fires on", words.percent(row["firing_rate"]), "firing_rate"),
    ("KL there, nats", words.number(row["kl"]), "kl"),
    ("NLL change there, nats", words.number(row["nll_change"], signed=True), "nll_change"),
    ("label score", words.percent(labels["score"].iloc[0]) if len(labels) and not edited else "–", "score"),
]
with st.container(horizontal=True, gap="small"):
    for name, value, meaning in facts:
        st.metric(name, value, help=theme.HELP[meaning])

body = narrow.stacking("latent")
left, right = body.columns([1.75, 1], gap="large")
with left:
    latent_cards.contexts(run, row, "interpretation" in done)
    if not row["dead"]:
        patching.of_latent(run, latent)
with right:
    latent_cards.decoders(run, row)
    latent_cards.activations(run, latent)
    latent_cards.categories(run, latent)
below_left, below_right = body.columns([1.35, 1], gap="large")
with below_left:
    latent_cards.logit_lens(run, latent)
with below_right:
    latent_cards.neighbours(run, latent)
latent_cards.how_labelled(run, latent, labels)
