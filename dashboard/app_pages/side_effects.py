"""Predicted changes by subject area, beside the measured ones, and how good the prediction is."""

import pandas as pd
import streamlit as st

from dashboard.components import (
    capability,
    charts,
    effect_charts,
    evaluation,
    narrow,
    patching,
    plots,
    state,
    tables,
    theme,
    words,
)
from mneme._util.vocabulary import CATEGORY_VERDICTS
from mneme.effects.evaluate import OWN
from mneme.store.queries import effects as queries
from mneme.store.queries import outcomes as outcome_queries
from mneme.verdict.calls import calls_sentence

run = state.need_run("Side effects", "attribution", "effects")
effects = queries.effects(run)
st.title("Side effects")
if effects.empty:
    st.info("No category had enough text to say anything about it.", icon=":material/inbox:")
    st.stop()

measured = int(effects["call"].notna().sum())
units = effects["outcome_unit"].dropna()
unit = (
    words.plain(units.iloc[0], 20) if len(units) else "nats"
)  # imported results may only tell an error rate
verdicts = effects["verdict"].value_counts()
with st.container(horizontal=True, gap="small"):
    for verdict, sign in theme.EFFECT_SIGN.items():
        st.metric(
            f"{sign} {verdict.capitalize()}",
            f"{verdicts.get(verdict, 0)} of {len(effects)}",
            help=CATEGORY_VERDICTS[verdict].capitalize() + ".",
            border=True,
        )
if said := calls_sentence(effects["call"].dropna()):
    st.markdown(words.markdown(said, 400), help=theme.HELP["calls"])

left, right = narrow.stacking("effects").columns([1.05, 1], gap="medium")
with left:
    st.subheader("Predicted", help=theme.HELP["effect"])
    plots.areas(effects, key="effects_bars", height=400, limit=15)
baselines = queries.baselines(run)
names = {k: words.plain(n, 60) for k, n in zip(effects["category"], effects["name"], strict=True)}
with right:
    st.subheader("Predicted beside measured", help=theme.HELP["measured"])
    if measured:
        st.caption(
            "Measured: next-token NLL of the benchmark's text."
            if unit == "nats"
            else "Measured: an error rate, which is not the NLL that is predicted."
        )
        by = st.selectbox(
            "Predicted by",
            [*OWN, *(c for c in baselines.columns if c != "category")],
            key="by",
            bind="query-params",
            format_func=evaluation.method_name,
            help="What lies across: the crosscoder's affected share or effect, or a baseline's value on the same text.",
        )
        st.plotly_chart(
            effect_charts.predicted_against_measured(
                effects,
                height=330,
                unit=unit,
                by=by,
                baseline=None if by in OWN else baselines[["category", by]],
            ),
            key="effects_measured",
            config=charts.STILL,
            alt="Prediction against measured change, a point a category",
        )
    else:
        st.info(
            "No outcomes were measured for this pair. `mneme measure RUN --benchmark FOLDER` measures them, "
            "`mneme outcomes import BASE.json TUNED.json RUN` takes lm-evaluation-harness' results; then this page "
            "shows how well the prediction does.",
            icon=":material/science:",
        )

st.subheader("Every category")
shown = pd.DataFrame(
    {
        "category": [words.plain(n, 60) for n in effects["name"]],
        "verdict": [f"{theme.EFFECT_SIGN.get(v, '')} {v}" for v in effects["verdict"]],
        "shown by, or why not known": [
            next((words.plain(x, 60) for x in both if not words.missing(x)), None)
            for both in zip(effects["reason"], effects["shown_by"], strict=True)
        ],
        "intended": ["yes" if not words.missing(i) and i else None for i in effects["intended"]],
        "NLL change": effects["nll_change"],
        "NLL interval": [
            words.between(a, b) for a, b in zip(effects["nll_low"], effects["nll_high"], strict=True)
        ],
        "affected_share": 100 * effects["affected_share"],
        "measured": effects["change"],
        "its interval": [
            words.between(a, b) for a, b in zip(effects["change_low"], effects["change_high"], strict=True)
        ],
        "call": [
            theme.CALL_SIGN.get(c, "not measured") if not words.missing(c) else "not measured"
            for c in effects["call"]
        ],
        "effect": effects["effect"],
        "95 % interval": [
            words.between(a, b, signed=False)
            for a, b in zip(effects["ci_low"], effects["ci_high"], strict=True)
        ],
        "explained": 100 * effects["explained"],
        "accuracy": 100 * (effects["accuracy_tuned"] - effects["accuracy_base"]),
        "tokens": effects["n_tokens"],
    }
)
keys = effects["category"].tolist()


def chosen() -> None:
    if (row := tables.picked("effects_table", len(keys))) is not None:
        st.session_state["area"] = keys[row]


st.dataframe(
    shown,
    key="effects_table",
    hide_index=True,
    height=min(460, 38 + 35 * len(shown)),
    on_select=chosen,
    selection_mode=tables.ROW,
    placeholder="–",
    column_config={
        "category": st.column_config.TextColumn(width=150, help="Click a row to see its latents below."),
        "verdict": st.column_config.TextColumn(width=116, help=theme.HELP["area_verdict"]),
        "NLL change": st.column_config.NumberColumn(
            "NLL, nats", format="%+.3f", width=76, help=theme.HELP["nll_change_of_text"]
        ),
        "NLL interval": st.column_config.TextColumn("95 % interval", width=116),
        "intended": st.column_config.TextColumn(
            width=66, help="Whether the tuning was meant to change it (effects.intended)."
        ),
        "95 % interval": st.column_config.TextColumn("effect's interval", width=108),
        "its interval": st.column_config.TextColumn(width=108),
        "effect": st.column_config.NumberColumn("effect", format="%.3g", width=62, help=theme.HELP["effect"]),
        "measured": st.column_config.NumberColumn(
            f"measured, {unit}",
            format="%+.3f",
            width=98 if unit == "nats" else 136,
            help=theme.HELP["measured"],
        ),
        "call": st.column_config.TextColumn("call", width=105, help=theme.HELP["calls"]),
        "affected_share": st.column_config.NumberColumn(
            "affected share", format="%.0f %%", width=104, help=theme.HELP["affected_share"]
        ),
        "shown by, or why not known": st.column_config.TextColumn(width=196),
        "explained": st.column_config.NumberColumn(
            "explained", format="%.0f %%", width=74, help=theme.HELP["explained"]
        ),
        "accuracy": st.column_config.NumberColumn(
            "accuracy",
            format="%+.1f",
            width=70,
            help="Change of answer accuracy on the benchmark, in percentage points.",
        ),
        "tokens": st.column_config.NumberColumn(
            format="localized", width=62, help="Corpus text assigned to the category."
        ),
    },
    alt="Predicted and measured change of every category",
)

patching.together(run)

st.subheader("Which latents make up an effect")
area = st.selectbox(
    "Category",
    keys,
    key="area",
    bind="query-params",
    format_func=lambda k: names.get(k, k),
    label_visibility="collapsed",
)
top = queries.top_latents(run, area)
if top.empty:
    st.info("No changed latent fires on this category's text.", icon=":material/check:")
else:
    tables.latent_table(
        top,
        ["latent", "verdict", "label", "contribution", "log_ratio", "q_value", "firing_rate", "nll_change"],
        key="effect_latents",
        height="content",
        alt="Latents that make up the effect",
    )

groups = queries.groups(run)
if len(groups):
    st.subheader(
        "Categories by kind of latent",
        help="What latents of each kind add to a category's predicted effect. A latent's kind is the group of subjects "
        "that it fires on most, beyond what the text as a whole would give. Off the diagonal: categories that latents "
        "of another subject move.",
    )
    st.plotly_chart(
        effect_charts.group_heatmap(effects, groups),
        key="effects_groups",
        config=charts.STILL,
        alt="Heat map: what each group of latents adds to each category's effect",
    )

capability.show(outcome_queries.capabilities(run, queries.nll_margin(run)))

judged = queries.evaluation(run)
if len(judged):
    evaluation.show(judged)

if len(baselines):
    with st.expander("Baselines by category"):
        shown = baselines.assign(category=[names.get(k, words.plain(k, 60)) for k in baselines["category"]])
        shown.columns = [words.plain(c.replace("_", " "), 40) for c in shown.columns]
        st.dataframe(shown, hide_index=True, placeholder="–", alt="Baselines by category")
