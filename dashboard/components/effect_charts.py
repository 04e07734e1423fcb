"""Figures of predicted and measured changes by category; see charts.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.components import theme, words
from dashboard.components.charts import FAINT, layout

_FAINTEST = 1e-3  # a smaller part of an effect is left blank


def effect_bars(effects: pd.DataFrame, *, height: int, legend: bool = True) -> go.Figure:
    """Predicted effects with intervals, the first row on top; a bar's custom data is its row's number."""
    top = effects.iloc[::-1]
    names = _names(top)
    fig = go.Figure()
    for verdict, colour in theme.EFFECT_COLOUR.items():
        own = (top["verdict"] == verdict).to_numpy()
        if not own.any():
            continue
        part = top[own]
        fig.add_bar(
            y=[names[i] for i in np.flatnonzero(own)],
            x=part["effect"].to_numpy(np.float32),
            customdata=len(top) - 1 - np.flatnonzero(own),
            orientation="h",
            name=f"{theme.EFFECT_SIGN[verdict]} {verdict}",
            marker={"color": colour},
            error_x=_bars(part["effect"], part["ci_low"], part["ci_high"], colour="rgba(128,128,128,0.85)"),
            hovertemplate="%{y}<br>predicted effect %{x:.3g}<extra></extra>",
        )
    layout(fig, "predicted effect", "", height=height, legend=legend)
    fig.update_yaxes(
        categoryorder="array", categoryarray=names, showgrid=False, fixedrange=True, tickfont={"size": 12}
    )
    fig.update_xaxes(rangemode="tozero", fixedrange=True)
    return fig


def predicted_against_measured(
    effects: pd.DataFrame,
    *,
    height: int = 380,
    unit: str = "nats",
    by: str = "crosscoder",
    baseline: pd.DataFrame | None = None,
) -> go.Figure:
    """A point a category with an outcome: what predicts it across (`by`), measured change up, in `unit`.

    by: crosscoder (the affected share, which ranks and calls), crosscoder_effect (the size), or a baseline, whose
    values by category `baseline` then has in its second column.
    """
    both = effects[effects["change"].notna()]
    across = "predicted effect"
    if by == "crosscoder":
        across = "affected share of the text"
        both = both.assign(
            effect=both["affected_share"],
            ci_low=both["affected_share_low"],
            ci_high=both["affected_share_high"],
        )
    elif baseline is not None:
        across = words.plotly(str(baseline.columns[1]).replace("_", " "), 40)
        value = both["category"].map(baseline.set_index("category").iloc[:, 0])
        both = both.assign(effect=value, ci_low=np.nan, ci_high=np.nan)
    fig = go.Figure()
    for call, colour in theme.CALL_COLOUR.items():
        own = both[both["call"] == call]
        if own.empty:
            continue
        fig.add_scatter(
            x=own["effect"].to_numpy(np.float32),
            y=own["change"].to_numpy(np.float32),
            error_x=_bars(own["effect"], own["ci_low"], own["ci_high"]),
            error_y=_bars(own["change"], own["change_low"], own["change_high"]),
            mode="markers",
            name=call,
            text=_names(own),
            marker={"size": 9, "symbol": theme.CALL_MARKER[call], "color": colour},
            hovertemplate=f"%{{text}}<br>predicted %{{x:.3g}}<br>measured %{{y:+.3g}} {unit}<extra></extra>",
        )
    fig.add_hline(y=0, line={"color": FAINT, "width": 1})
    measured = "measured NLL change, nats per token" if unit == "nats" else f"measured change, {unit}"
    return layout(fig, across, measured, height=height)


def group_heatmap(effects: pd.DataFrame, groups: pd.DataFrame, *, limit: int = 20) -> go.Figure:
    """Categories (the `limit` largest effects, the largest on top) by groups of latents: what each adds to the effect.

    Coloured on a log scale: a category's effect may be a thousand times another's.
    """
    top = effects.head(limit).iloc[::-1]
    wide = groups.pivot_table(index="category", columns="grp", values="contribution").reindex(top["category"])
    wide = wide[wide.sum().sort_values(ascending=False).index]
    value = wide.to_numpy(float)  # (C, G)
    high = float(np.nanmax(value, initial=_FAINTEST * 10))
    shown = np.where(value >= _FAINTEST, np.log10(np.fmax(value, _FAINTEST)), np.nan)
    ticks = np.arange(np.log10(_FAINTEST), np.ceil(np.log10(high)) + 1)
    fig = go.Figure(
        go.Heatmap(
            z=shown.astype(np.float32),
            x=[words.plotly(name, 24) for name in wide.columns],
            y=_names(top),
            customdata=value.astype(np.float32),
            zmin=np.log10(_FAINTEST),
            zmax=np.log10(high),
            colorscale="Cividis",
            xgap=1,
            ygap=1,
            colorbar={
                "title": {"text": "adds", "side": "right"},
                "tickvals": ticks,
                "ticktext": [f"{10**t:g}" for t in ticks],
                "thickness": 12,
                "outlinewidth": 0,
            },
            hovertemplate="%{y}<br>latents of %{x}: %{customdata:.3g}<extra></extra>",
            hoverongaps=False,
        )
    )
    layout(fig, "latents that fire most on", "", height=120 + 24 * len(top), legend=False)
    fig.update_xaxes(showgrid=False, fixedrange=True, tickangle=-40, tickfont={"size": 12})
    fig.update_yaxes(showgrid=False, fixedrange=True, tickfont={"size": 12})
    return fig


def _bars(value: pd.Series, low: pd.Series, high: pd.Series, *, colour: str = FAINT) -> dict[str, Any]:
    """Error bars; {} where no end is known. colour: a stronger one where they lie on bars."""
    if low.isna().all():
        return {}
    return {
        "type": "data",
        "symmetric": False,
        "array": (high - value).clip(0).fillna(0).to_numpy(np.float32),
        "arrayminus": (value - low).clip(0).fillna(0).to_numpy(np.float32),
        "color": colour,
        "thickness": 1.2,
        "width": 2,
    }


def _names(rows: pd.DataFrame) -> list[str]:
    """Escaped names of categories, each once: Plotly merges bars of the same name."""
    seen: dict[str, int] = {}
    names = []
    for name in rows["name"]:
        short = words.plotly(name, 34)
        seen[short] = seen.get(short, 0) + 1
        names.append(short + "\u2009" * (seen[short] - 1))
    return names
