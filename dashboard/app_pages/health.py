"""How far this run can be trusted: checks, nulls, training, time and memory."""

import pandas as pd
import streamlit as st

from dashboard.components import charts, curves, narrow, replies, state, theme, words
from mneme.attribution.reasons import REASONS
from mneme.power.summary import sentence
from mneme.report import read_out
from mneme.report.read_out import read_outs
from mneme.store.queries import quality

run = state.need_run("Health")
st.title("Health")
checks = quality.health(run)
if checks.empty:
    st.info(
        "The checks are made as the stages finish; none has finished yet.", icon=":material/hourglass_empty:"
    )
else:
    problems = checks[checks["status"].isin(["fail", "warn"])]
    st.caption(
        "Every check passed."
        if problems.empty
        else f"{len(problems)} of {len(checks)} checks ask for a look; they come first."
    )
    records = checks.to_dict("records")
    for start in range(0, len(records), 4):
        for column, item in zip(
            narrow.stacking(f"checks_{start}", abreast=2).columns(4), records[start : start + 4], strict=False
        ):
            colour, icon, meaning = theme.STATUS.get(item["status"], theme.STATUS["info"])
            with column.container(border=True, height="stretch", gap="xsmall"):
                unit = words.plain(item["unit"], 80)
                # A share is shown as a percentage, with what it is a share of below.
                share, of = unit.startswith("share"), unit.removeprefix("share").strip(" ,")
                value = words.percent(item["value"]) if share else words.number(item["value"])
                st.markdown(words.markdown(item["title"] or item["metric"], 70))
                st.markdown(f"#### {value}" + ("" if share else f" {words.markdown(unit)}"))
                st.badge(meaning, icon=icon, color=colour)
                notes = [of if share else "", words.threshold(item["threshold"], share=share)]
                if any(notes):
                    st.caption(words.markdown(" · ".join(filter(None, notes)), 120))
                if not words.missing(item["advice"]) and item["advice"]:
                    st.caption(words.markdown(item["advice"], 300))

reasons = quality.uncertain_reasons(run)
if reasons:
    st.subheader("Uncertain latents", help="Latents whose change is neither shown nor ruled out, and why.")
    st.dataframe(
        pd.DataFrame(
            {
                "reason": [
                    words.plain(reason, 40) or "not kept by an earlier mneme" for reason, _ in reasons
                ],
                "latents": [words.count(n) for _, n in reasons],
                "what it means": [REASONS.get(reason, "–") for reason, _ in reasons],
            }
        ),
        hide_index=True,
        height="content",
        alt="Uncertain latents by reason",
    )

st.subheader(
    "What could have been found",
    help="The positive control: changes of known sizes, added to the activations of half of a subject area's "
    "documents and looked for. Made with the run; `mneme power RUN` makes it again.",
)
power = quality.power(run)
if power.empty:
    st.caption("Not measured. To make it: `mneme power RUN`.")
else:
    st.markdown(words.markdown(sentence(power), 600))
    st.dataframe(
        pd.DataFrame(
            {
                "channel": [words.plain(c, 20) for c in power["channel"]],
                "area": ["all" if words.missing(n) else words.plain(n, 60) for n in power["name"]],
                "found at the margin": [words.percent(a) for a in power["at_margin"]],
                "margin": [words.number(m) for m in power["margin"]],
                "smallest size found": [words.number(m) for m in power["minimum_detectable"]],
                "unit": [words.plain(u, 40) for u in power["unit"]],
                "why not": ["" if words.missing(r) else words.plain(r, 80) for r in power["reason"]],
            }
        ),
        hide_index=True,
        height=320,
        alt="What could have been found, by channel and subject area",
    )

training = quality.training(run)
st.subheader("Training of the crosscoder")
if training.empty:
    st.info(
        "No training curve: the stage `crosscoder` has not finished, or the crosscoder was loaded.",
        icon=":material/timeline:",
    )
else:
    one, two, three = narrow.stacking("training", abreast=2).columns(3, gap="medium")
    with one:
        st.markdown("**Explained variance**", help=theme.HELP["explained_variance"])
        st.plotly_chart(
            curves.training_curve(
                training, {"explained_variance_base": "base", "explained_variance_tuned": "tuned"}, "share"
            ),
            key="curve_ev",
            config=charts.STILL,
            alt="Explained variance while training",
        )
    with two:
        st.markdown(
            "**Loss**",
            help="Squared error summed over both models and the width, and the auxiliary loss that revives "
            "dead latents.",
        )
        st.plotly_chart(
            curves.training_curve(training, {"loss": "loss", "aux_loss": "auxiliary"}, "loss"),
            key="curve_loss",
            config=charts.STILL,
            alt="Loss while training",
        )
    with three:
        st.markdown("**Dead latents**", help="Share of latents that have not fired for long.")
        st.plotly_chart(
            curves.training_curve(training, {"dead_share": "dead"}, "share"),
            key="curve_dead",
            config=charts.STILL,
            alt="Share of dead latents while training",
        )

st.subheader(
    "Dictionaries of one model alone",
    help="A latent of the run's dictionary has one activation for both models, which hides a feature that the tuned "
    "model stops using while it does something else there. A dictionary of one model, read on each, sees it.",
)
alone = read_outs(run)
if not alone:
    st.caption("Not tested. To test it: `mneme read-out RUN`.")
for found in alone:
    st.markdown(words.markdown(read_out.sentence(found), 600))
if cells := read_out.rows(alone):
    st.dataframe(
        pd.DataFrame([[words.plain(cell, 120) for cell in row] for row in cells], columns=read_out.COLUMNS),
        hide_index=True,
        height="content",
        alt="Changed latents of the dictionaries of one model alone",
    )

left, right = narrow.stacking("nulls").columns(2, gap="medium")
with left:
    st.subheader(
        "False positives on nulls",
        help="Comparisons where nothing changed: how often a latent is still called changed, the "
        "margin that asks for, and how many categories such latents affect.",
    )
    nulls = quality.nulls(run)
    if nulls.empty:
        st.caption("No null comparison was made in this run.")
    else:
        st.dataframe(
            pd.DataFrame(
                {
                    "null": [words.plain(k, 60) for k in nulls["kind"]],
                    "called changed": [
                        f"{words.count(f)} of {words.count(n)}"
                        for f, n in zip(nulls["n_false"], nulls["n"], strict=True)
                    ],
                    "rate": [words.percent(r) for r in nulls["rate"]],
                    "95 % interval": [
                        f"{words.percent(a)} … {words.percent(b)}"
                        for a, b in zip(nulls["ci_low"], nulls["ci_high"], strict=True)
                    ],
                    "margin": [words.number(m) for m in nulls["margin"]],
                    "areas": [
                        "–" if words.missing(n) else f"{words.count(r)} of {words.count(n)}"
                        for r, n in zip(nulls["n_affected"], nulls["n_categories"], strict=True)
                    ],
                }
            ),
            hide_index=True,
            height="content",
            column_config={
                "areas": st.column_config.TextColumn(
                    help="Subject areas with text enough that latents called changed affect."
                )
            },
            alt="False-positive rates on null comparisons",
        )
with right:
    st.subheader("Time and memory")
    stages = quality.stages(run)
    if stages.empty:
        st.caption("No stage has finished yet.")
    else:
        st.dataframe(
            pd.DataFrame(
                {
                    "stage": [words.plain(s, 40) for s in stages["stage"]],
                    "time": [words.duration(s) for s in stages["seconds"]],
                    "peak memory": [
                        f"{words.number(m / 1000)} GB" if not words.missing(m) else "–"
                        for m in stages["peak_memory_mb"]
                    ],
                    "finished": [
                        f"{t:%Y-%m-%d %H:%M}" if not words.missing(t) else "–" for t in stages["finished_at"]
                    ],
                }
            ),
            hide_index=True,
            height="content",
            alt="Time and memory of each stage",
        )
        st.caption(f"In all {words.duration(stages['seconds'].sum())}.")

replies.show_comparison(run)

info = run.info()
with st.expander("What was compared"):
    known = (
        "base",
        "tuned",
        "layer",
        "n_layers",
        "width",
        "latents",
        "k",
        "variant",
        "corpus",
        "n_documents",
        "n_tokens",
        "n_skipped_bos",
        "n_skipped_sinks",
        "created_at",
        "mneme_version",
    )
    st.dataframe(
        pd.DataFrame({"fact": known, "value": [words.plain(info.get(k), 200) or "–" for k in known]}),
        hide_index=True,
        height="content",
        alt="Facts of the run",
    )
