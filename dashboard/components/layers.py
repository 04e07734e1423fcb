"""The layer profile as two plots: the share of the difference of the predictions that each layer holds, and how far
apart the streams are there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.components import theme
from dashboard.components.charts import FAINT, layout

_LINE = theme.VERDICT_COLOUR["amplified"]
_OTHER = theme.VERDICT_COLOUR["suppressed"]
_HEIGHT = 300


def restored(profile: pd.DataFrame, layer: int | None, enough: float) -> go.Figure:
    """profile: table `layer_profile`. Filled markers were measured, open ones are known by construction."""
    known = profile[profile["restored"].notna()]
    exact = known["exact"].astype(bool).to_numpy()
    value = known["restored"].to_numpy(np.float32)
    low, high = (known[f"restored_{end}"].to_numpy(np.float32) for end in ("low", "high"))
    fig = go.Figure()
    fig.add_scatter(
        x=known["layer"].to_numpy(np.int32),
        y=value,
        mode="lines+markers",
        line={"width": 2, "color": _LINE},
        marker={"size": 8, "color": _LINE, "symbol": ["circle-open" if e else "circle" for e in exact]},
        error_y={
            "type": "data",
            "array": np.where(exact, 0, np.nan_to_num(high - value)),
            "arrayminus": np.where(exact, 0, np.nan_to_num(value - low)),
            "thickness": 1.2,
            "width": 0,
        },
        customdata=["by construction" if e else "measured" for e in exact],
        hovertemplate="layer %{x}: %{y:.1%} (%{customdata})<extra></extra>",
    )
    fig.add_hline(y=enough, line={"color": FAINT, "width": 1, "dash": "dash"})
    _read_here(fig, layer)
    layout(fig, "layer", "share of KL restored", height=_HEIGHT, legend=False)
    fig.update_yaxes(
        tickformat=".0%", range=[min(-0.05, float(value.min(initial=0)) - 0.05), 1.08], fixedrange=True
    )
    _layers(fig, len(profile))
    return fig


def difference(profile: pd.DataFrame, layer: int | None) -> go.Figure:
    """|tuned - base| / |base| of the streams after each layer; layers whose own weights differ are diamonds."""
    changed = profile["changed"].astype(bool).to_numpy()
    fig = go.Figure()
    fig.add_scatter(
        x=profile["layer"].to_numpy(np.int32),
        y=profile["difference"].to_numpy(np.float32),
        mode="lines+markers",
        line={"width": 2, "color": _OTHER},
        marker={
            "size": np.where(changed, 11, 6),
            "color": _OTHER,
            "symbol": ["diamond" if c else "circle" for c in changed],
        },
        customdata=["its weights differ" if c else "its weights are the same" for c in changed],
        hovertemplate="layer %{x}: %{y:.3f} (%{customdata})<extra></extra>",
    )
    _read_here(fig, layer)
    layout(fig, "layer", "relative difference of the streams", height=_HEIGHT, legend=False)
    fig.update_yaxes(rangemode="tozero", fixedrange=True)
    _layers(fig, len(profile))
    return fig


def _read_here(fig: go.Figure, layer: int | None) -> None:
    if layer is not None:
        fig.add_vline(
            x=layer,
            line={"color": FAINT, "width": 2, "dash": "dot"},
            annotation={"text": "read here", "font": {"size": 12}, "yanchor": "bottom"},
            annotation_position="bottom right",
        )


def _layers(fig: go.Figure, n: int) -> None:
    fig.update_xaxes(range=[-0.5, n - 0.5], fixedrange=True, dtick=max(1, -(-n // 12)))
