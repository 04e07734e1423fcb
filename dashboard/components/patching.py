"""What patching latents did to the predictions (`mneme causal`): shares of KL as bars, beside controls."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.components import narrow, theme, words
from mneme.causal.patching_sentences import PATCHES, SOURCES, gain, joint_sentences, latents_sentence, percent
from mneme.store.queries import causal as queries
from mneme.store.run import Run

_HELP = (
    "The latent's change is taken off the tuned model's activation (undone), or put on the base's (done), at the "
    "tokens it fires on, and the model predicts again. The share of KL(base || tuned) that this closes: 100 % makes "
    "the two models predict alike, below 0 they differ more. Grey: as large a patch along other "
    "directions, and all that a patch there can do. 95 % intervals over documents."
)
_OWN, _CONTROL = theme.VERDICT_COLOUR["amplified"], theme.VERDICT_COLOUR["unchanged"]
_SHORTEST = 0.1  # of the axis
_LOWEST = -0.5  # of the axis: what reaches lower is cut there, its number is not
_STYLE = (
    "<style>.mneme-shares{display:grid;grid-template-columns:minmax(7rem,42%) minmax(5rem,1fr) auto;gap:0.28rem 0.6rem;"
    "align-items:center;font-size:0.86rem;margin:0.2rem 0 0.6rem}"
    ".mneme-shares .head{grid-column:1/-1;font-weight:600;margin-top:0.3rem}"
    ".mneme-shares .name{text-align:right;line-height:1.15}"
    ".mneme-shares .track{position:relative;height:0.85rem}"
    ".mneme-shares .bar{position:absolute;top:0;bottom:0;border-radius:2px}"
    ".mneme-shares .zero{position:absolute;top:-3px;bottom:-3px;width:1px;background:rgba(128,128,128,.7)}"
    ".mneme-shares .range{position:absolute;top:calc(50% - 1px);height:2px;background:rgba(128,128,128,.85)}"
    ".mneme-shares .number{font-variant-numeric:tabular-nums;white-space:nowrap}</style>"
)


def of_latent(run: Run, latent: int) -> None:
    """One latent on its own contexts: undone, done, taken out."""
    st.subheader("Does it change the predictions?", help=_HELP)
    found = queries.of_latent(run, latent)
    if found.empty:
        st.info(
            f"Not tried. `mneme causal RUN --latents {latent}` patches its change out of the tuned model and into the "
            "base, on its own contexts, beside controls.",
            icon=":material/experiment:",
        )
        return
    one = found.iloc[0]
    for column, patch in zip(st.columns(2, gap="medium"), PATCHES, strict=True):
        column.html(share_bars(found[found["patch"] == patch], PATCHES[patch].capitalize(), axis(found)))
    own = found[(found["source"] == "latent") & found["gain"].notna()].to_dict("records")
    beyond = ", ".join(f"{row['patch']} {gain(row)}" for row in own)
    note = (
        f"{one['n_documents']} documents, {one['n_tokens']:,} predictions, {one['kl_before']:.2f} nats of KL a token "
        f"and {one['nll_before']:+.2f} of NLL before."
    )
    st.caption(note + (f" KL closed beyond the other latent's direction: {beyond}." if beyond else ""))
    parts = [
        f"{words.plain(row['model'], 10)} **{words.interval(row['kl'], row['kl_low'], row['kl_high'], signed=False)}** "
        f"(NLL {words.interval(row['nll'], row['nll_low'], row['nll_high'])})"
        for row in queries.ablations(run, latent).to_dict("records")
    ]
    if parts:
        st.markdown(
            "Taken out of a model, its predictions move by (KL, nats per token): " + " · ".join(parts),
            help="Ablation: f times the model's own decoder is taken off its activation. It tells how much the model "
            "uses the latent.",
        )


def together(run: Run) -> None:
    """All changed latents at once, and how each did by itself."""
    st.subheader("Are the changed latents why the predictions differ?", help=_HELP)
    found, each = queries.together(run), queries.every_latent(run)
    sentences = [*joint_sentences(found), *latents_sentence(each)]
    if not sentences:
        st.info(
            "Not tried. `mneme causal RUN` undoes the change of all changed latents in the tuned model, and of each by "
            "itself, and asks how much of the difference goes away.",
            icon=":material/experiment:",
        )
        return
    bars, told = narrow.stacking("patching").columns([1, 1.15], gap="large")
    with bars:
        for patch in PATCHES:
            rows = found[found["patch"] == patch]
            if len(rows):
                st.html(share_bars(rows, PATCHES[patch].capitalize(), axis(found)))
    with told:
        for sentence in sentences:
            st.markdown(words.markdown(sentence, 600))


def axis(rows: pd.DataFrame) -> tuple[float, float]:
    """The shares where bars begin and end, so that all of these rows have room."""
    values = rows[["kl_share", "kl_low", "kl_high"]].astype(float).to_numpy().ravel()
    values = values[~np.isnan(values)]
    return max(_LOWEST, min(0.0, *values, 0.0)), max(_SHORTEST, *values, _SHORTEST)


def share_bars(rows: pd.DataFrame, head: str, ends: tuple[float, float]) -> str:
    """Shares of KL as HTML: name, bar from 0 with its interval, number. rows: of the table `causal`, one patch."""
    low, high = ends

    def along(value: float) -> float:
        return max(0.0, min(100.0, 100 * (value - low) / (high - low)))

    parts = [
        _STYLE,
        f'<div class="mneme-shares" role="list"><span class="head">{words.html(head, 60)}</span>',
    ]
    for row in rows.to_dict("records"):
        name = words.html(SOURCES.get(row["source"], row["source"]), 60)
        value, known = row["kl_share"], not words.missing(row["kl_share"])
        number = percent(value) if known else "–"
        between = f"{percent(row['kl_low'])} … {percent(row['kl_high'])}" if known else "too little to tell"
        colour = _OWN if row["source"] in ("latent", "latents") else _CONTROL
        parts.append(
            f'<span class="name">{name}</span><span class="track" title="{name}: {number} ({between})">'
        )
        if known:
            start, stop = sorted((along(0.0), along(value)))
            parts.append(
                f'<span class="bar" style="left:{start:.1f}%;width:{stop - start:.1f}%;background:{colour}"></span>'
            )
            first, last = along(row["kl_low"]), along(row["kl_high"])
            parts.append(f'<span class="range" style="left:{first:.1f}%;width:{last - first:.1f}%"></span>')
        parts.append(f'<span class="zero" style="left:{along(0.0):.1f}%"></span></span>')
        parts.append(f'<span class="number"><b>{number}</b> <small>{between}</small></span>')
    return "".join([*parts, "</div>"])
