"""Small figures: one latent's activations, and the curves of a training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.components import words
from dashboard.components.charts import layout


def activation_histogram(bins: pd.DataFrame, *, height: int = 170) -> go.Figure:
    """`bins`: low, high, n; bins may differ in width, tokens are on a log scale."""
    middle = (bins["low"] + bins["high"]) / 2
    fig = go.Figure(
        go.Bar(
            x=middle.to_numpy(np.float32),
            width=(bins["high"] - bins["low"]).to_numpy(np.float32),
            y=bins["n"].where(bins["n"] > 0).to_numpy(np.float32),
            marker={"color": "#7b9ea0"},
            hovertemplate="activation %{x:.3g}<br>%{y:,} tokens<extra></extra>",
        )
    )
    layout(fig, "activation", "tokens, log scale", height=height, legend=False)
    fig.update_yaxes(type="log", dtick=1, fixedrange=True)
    fig.update_xaxes(fixedrange=True)
    return fig


def training_curve(rows: pd.DataFrame, columns: Mapping[str, str], y: str, *, height: int = 240) -> go.Figure:
    """`columns` of the training table -> name, over tokens read."""
    fig = go.Figure()
    dashes = ("solid", "dash", "dot")
    for i, (column, name) in enumerate(columns.items()):
        if rows[column].notna().any():
            fig.add_scatter(
                x=rows["tokens"].to_numpy(np.float64),
                y=rows[column].to_numpy(np.float32),
                mode="lines",
                name=name,
                line={"width": 2, "dash": dashes[i % 3]},
                hovertemplate=f"{name} %{{y:.3g}}<extra></extra>",
            )
    layout(fig, "tokens read", y, height=height, legend=len(columns) > 1)
    fig.update_layout(hovermode="x unified")
    if y == "share":
        fig.update_yaxes(tickformat=".3~%")  # not 500µ
    return fig


def two_effects(effects: pd.DataFrame, one: str, other: str, *, limit: int = 10) -> go.Figure:
    """Both runs' predicted effects with intervals, the categories of the largest. Names are escaped here."""
    rows = effects.head(limit).iloc[::-1]
    names = [words.plotly(name, 30) for name in rows["name"]]
    fig = go.Figure()
    for name, suffix, colour, symbol in (
        (one, "", "#0072b2", "circle"),
        (other, "_other", "#d55e00", "diamond"),
    ):
        value, low, high = (rows[f"{column}{suffix}"] for column in ("effect", "ci_low", "ci_high"))
        fig.add_scatter(
            x=value.to_numpy(np.float32),
            y=names,
            mode="markers",
            name=words.plotly(name, 24),
            marker={"color": colour, "symbol": symbol, "size": 9},
            error_x={
                "type": "data",
                "array": (high - value).to_numpy(np.float32),
                "arrayminus": (value - low).to_numpy(np.float32),
                "thickness": 1.5,
                "width": 0,
            },
            hovertemplate="%{y}<br>%{x:.3f}<extra></extra>",
        )
    layout(fig, "predicted effect", "", height=320)
    fig.update_yaxes(fixedrange=True, automargin=True)
    fig.update_xaxes(fixedrange=True)
    return fig
