"""One latent, down to its tokens."""

import json

import streamlit as st

from dashboard.components import (
    charts,
    curves,
    filters,
    label_scores,
    looks,
    receipts,
    review,
    state,
    tables,
    tokens,
    words,
)
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


top, jump, lister = st.columns([5, 1.8, 1.3], vertical_alignment="bottom")
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

latent, verdict = int(row["latent"]), row["verdict"] or "uncertain"
done = quality.finished_stages(run)
labels = queries.labels(run, latent)
edited = review.has_own_label(run, latent)  # which no score tells of
label = words.markdown(labels["label"].iloc[0], 140) if len(labels) else "no label"
top.title(f"Latent {latent:,}")

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
    st.caption(
        f"{place['place']:,} of {place['of']:,} in the filter, by {sort_name}"
        if place["place"]
        else f"not in the filter ({place['of']:,} latents)",
        width="content",
    )
    st.badge(
        f"{looks.VERDICT_SIGN[verdict]} {verdict}",
        color=looks.VERDICT_BADGE[verdict],
        help=looks.HELP["verdict"],
    )
    for flag, shown, meaning in (
        ("redirected", "redirected", looks.HELP["redirected"]),
        ("dense", "dense", "It fires on a large share of the tokens (a fifth, unless set otherwise)."),
        ("position_bound", "position bound", "It fires mostly at the first tokens of documents."),
        ("dead", "dead", "It never fires on this text."),
    ):
        if row[flag]:
            st.badge(shown, color="violet", help=meaning)
    if len(labels) and labels["unreliable"].iloc[0] and not edited:
        st.badge(
            "unreliable label",
            color="orange",
            help="On held-out contexts it isn't shown to do better than other latents' labels do.",
        )
    if row["stability"] is not None:
        st.badge(
            f"{words.percent(row['stability'])} of seeds find it",
            color="gray",
            help=looks.HELP["stability"],
        )
review.panel(run, latent, label)

facts = [
    ("log ratio", words.number(row["log_ratio"], signed=True), "log_ratio"),
    (
        "95 % interval",
        words.between(row["ci_low"], row["ci_high"]),
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
        st.metric(name, value, help=looks.HELP[meaning])

left, right = st.columns([1.75, 1], gap="large")
with left:
    found = queries.quantiles(run, latent) if "interpretation" in done else {}
    if not found:
        st.subheader("Contexts")
        reason = (
            "It never fires, so it has no contexts."
            if row["dead"]
            else "Its contexts are collected by the stage interpretation."
        )
        st.info(reason, icon=":material/hourglass_empty:")
    else:
        names = {0: "Top", **{q: f"D{q}" for q in range(10, 0, -1)}}
        order = [q for q in names if q in found]
        head, colour_by = st.columns([1, 1.3], vertical_alignment="bottom")
        head.subheader(
            "Contexts",
            help="Windows of text around the tokens it fires on most (top), and from each tenth of its "
            "activations, "
            "D10 the strongest. The underlined token is the strongest. Point at a token for its values.",
        )
        colouring = colour_by.segmented_control(
            "Colour by",
            list(tokens.COLOURINGS),
            default="activation",
            required=True,
            format_func=lambda name: tokens.COLOURINGS[name],
            key="colouring",
            label_visibility="collapsed",
        )
        quantile = st.segmented_control(
            "Quantile",
            order,
            default=order[0],
            required=True,
            format_func=lambda q: names[q],
            key="quantile",
            label_visibility="collapsed",
        )
        chosen = quantile if quantile in order else order[0]
        st.html(tokens.contexts_html(queries.contexts(run, latent, chosen), colouring or "activation"))

with right:
    st.subheader("Decoders", help=looks.HELP["delta_norm"])
    st.markdown(
        f"norm **{words.number(row['norm_base'])}** base, **{words.number(row['norm_tuned'])}** tuned · "
        f"delta norm **{words.number(row['delta_norm'])}** · cosine **{words.number(row['decoder_cosine'])}**"
    )
    betas = queries.betas(run, latent)
    if len(betas):
        st.markdown("**Beta, each target and probe**", help=looks.HELP["beta"])
        main = row["probe"]
        betas["probe"] = [f"{p} (main)" if p == main else p for p in betas["probe"]]
        st.dataframe(
            betas[["target", "probe", "base", "tuned"]],
            hide_index=True,
            height="content",
            column_config={
                "target": st.column_config.TextColumn(
                    help="What the direction is fitted to: the error left when the latent is removed "
                    "(main), the reconstruction, or the activation."
                ),
                "probe": st.column_config.TextColumn(
                    help="Whose decoder gives the direction; main: the longer one."
                ),
                "base": st.column_config.NumberColumn("beta(b)", format="%.3f"),
                "tuned": st.column_config.NumberColumn("beta(f)", format="%.3f"),
            },
            alt="Latent scaling of this latent",
        )
        note = (
            f"Between halves of the text beta differs by {words.number(row['split_half_base'])} (base) and "
            f"{words.number(row['split_half_tuned'])} (tuned)."
        )
        if row["vif"] is not None:
            note += (
                f" Fitted jointly with its correlated group: {words.number(row['beta_joint_base'])} and "
                f"{words.number(row['beta_joint_tuned'])} (variance inflation {words.number(row['vif'])})."
            )
        st.caption(note)
    bins = queries.histogram(run, latent)
    if len(bins):
        st.subheader("Activations")
        st.plotly_chart(
            curves.activation_histogram(bins),
            key="activations",
            config=charts.STILL,
            alt="Histogram of its activations",
        )
    groups = queries.categories(run, latent)
    if len(groups):
        st.subheader("Categories", help=looks.HELP["category"])
        for item in groups.head(5).to_dict("records"):
            st.progress(
                min(1.0, max(0.0, float(item["weight"]))),
                text=f"{words.markdown(item['name'], 44)} · {words.percent(item['weight'])}",
            )

lens = queries.logit_lens(run, latent)
near = queries.neighbours(run, latent)
below_left, below_right = st.columns([1.35, 1], gap="large")
with below_left:
    st.subheader(
        "Logit lens",
        help="Next tokens that the latent's decoder promotes or holds down, read through each model's own "
        "output layer; "
        "difference is tuned minus base.",
    )
    if len(lens):
        side = st.segmented_control(
            "Direction",
            ["top", "bottom"],
            default="top",
            required=True,
            key="lens_side",
            format_func=lambda d: {"top": "Promotes", "bottom": "Holds down"}[d],
            label_visibility="collapsed",
        )
        for column, model in zip(st.columns(3), ("base", "tuned", "difference"), strict=True):
            own = lens[(lens["model"] == model) & (lens["direction"] == (side or "top"))]
            column.dataframe(
                {model: [words.plain(t, 30) for t in own["token"]], "logit": own["logit"].to_list()},
                hide_index=True,
                height="content",
                column_config={"logit": st.column_config.NumberColumn(format="%+.2f", width=65)},
                alt=f"Logit lens, {model}",
            )
    else:
        st.caption("Read by the stage interpretation.")
with below_right:
    st.subheader(
        "Nearest latents", help="By decoder: cosine of directions. By firing: correlation of activations."
    )
    if len(near):
        kinds = [k for k in ("decoder", "firing") if k in set(near["kind"])]
        kind = st.segmented_control(
            "Near by", kinds, default=kinds[0], required=True, key="near_kind", label_visibility="collapsed"
        )
        own = near[near["kind"] == (kind if kind in kinds else kinds[0])]
        tables.latent_table(
            own.rename(columns={"neighbour": "latent"}),
            ["latent", "verdict", "label", "similarity"],
            key="near_table",
            height="content",
            alt="Nearest latents",
        )
    else:
        st.caption("Found by the stage interpretation.")

if len(labels):
    with st.expander("How the label was made"):
        label_scores.panel(run, latent)
        for item in labels.to_dict("records"):
            st.markdown(
                f"**{words.markdown(item['label'], 140)}** · {words.markdown(item['method'], 60)} · score "
                f"{words.percent(item['score'])}, with other latents' labels "
                f"{words.percent(item['score_shuffled'])}"
            )
            try:
                evidence = json.dumps(json.loads(item["detail"] or "{}"), indent=1, ensure_ascii=False)
            except (TypeError, ValueError):
                evidence = str(item["detail"])
            st.code(
                "\n".join(words.plain(line, 400) for line in evidence.split("\n")[:60]),
                language=None,
                wrap_lines=True,
            )
            receipts.show(run, item["detail"])
