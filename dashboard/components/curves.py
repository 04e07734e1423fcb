"""Small figures: one latent's activations, and the curves of a training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

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
    layout(fig, "tokens read (training)", y, height=height, legend=len(columns) > 1)
    fig.update_layout(hovermode="x unified")
    return fig
