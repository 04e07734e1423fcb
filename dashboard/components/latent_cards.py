"""The cards of the Latent page: contexts, decoders and betas, activations, categories, lens, neighbours, label."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import (
    betas,
    charts,
    curves,
    label_scores,
    narrow,
    replies,
    tables,
    theme,
    tokens,
    words,
)
from mneme.store.queries import latent as queries
from mneme.store.run import Run


def contexts(run: Run, row: dict[str, Any], made: bool) -> None:
    """Windows of text around its firings, quantile by quantile. `made`: whether the stage is done."""
    latent = int(row["latent"])
    found = queries.quantiles(run, latent) if made else {}
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
            "D10 the strongest. The underlined token is the strongest. Point at a token for its values. "
            "KL and NLL change are measured on the first tokens of a share of the documents.",
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


def decoders(run: Run, row: dict[str, Any]) -> None:
    """Norms, cosine and all betas."""
    latent = int(row["latent"])
    st.subheader("Decoders", help=theme.HELP["delta_norm"])
    st.markdown(
        f"norm **{words.number(row['norm_base'])}** base, **{words.number(row['norm_tuned'])}** tuned · "
        f"delta norm **{words.number(row['delta_norm'])}** · cosine **{words.number(row['decoder_cosine'])}**"
    )
    if row["turned"]:
        st.caption(_turn(row), help=theme.HELP["turn"])
    found = queries.betas(run, latent)
    if len(found):
        betas.table(found, row)
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


def _turn(row: dict[str, Any]) -> str:
    """What the test of the latent's direction found, in a sentence."""
    if words.missing(row["turn_q"]):
        return "The decoders point apart; whether the models' own directions do was not tested."
    cosine = words.interval(row["turn_cosine"], row["turn_low"], row["turn_high"], signed=False)
    q = words.number(row["turn_q"])
    return f"The decoders point apart. Cosine of both models' own directions: {cosine}, q {q}."


def activations(run: Run, latent: int) -> None:
    """Histogram of its activations."""
    bins = queries.histogram(run, latent)
    if len(bins):
        st.subheader("Activations")
        st.plotly_chart(
            curves.activation_histogram(bins),
            key="activations",
            config=charts.STILL,
            alt="Histogram of its activations",
        )


def categories(run: Run, latent: int) -> None:
    """The areas it belongs to, the heaviest five."""
    groups = queries.categories(run, latent)
    if len(groups):
        st.subheader("Categories", help=theme.HELP["category"])
        for item in groups.head(5).to_dict("records"):
            st.progress(
                min(1.0, max(0.0, float(item["weight"]))),
                text=f"{words.markdown(item['name'], 44)} · {words.percent(item['weight'])}",
            )


def logit_lens(run: Run, latent: int) -> None:
    """What either decoder promotes and holds down, and the difference."""
    lens = queries.logit_lens(run, latent)
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
        beside = narrow.side_by_side("lens")
        for column, model in zip(beside.columns(3), ("base", "tuned", "difference"), strict=True):
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


def neighbours(run: Run, latent: int) -> None:
    """Latents near by, in directions or in firing."""
    near = queries.neighbours(run, latent)
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


def how_labelled(run: Run, latent: int, labels: pd.DataFrame) -> None:
    """Every label with its score and evidence."""
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
                replies.show(run, item["detail"])
