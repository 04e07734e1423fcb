"""Figures, as plain functions from arrays to Plotly; the same input gives the same bytes.

Byte-stable because a browser drops a selection when a figure changes. Points travel as float32 arrays with
the latent's number, no text for each; unchanged ones beyond 30,000 are drawn as a density.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.components import theme, words
from mneme._util.vocabulary import LATENT_SIGNS

MAX_POINTS = 30_000
MAX_SHAPES = 500
"""Points up to which a plot is drawn as shapes of the page: without a graphics card WebGL takes a second to start."""
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "autoScale2d", "toImage"]}
MAP_CONFIG = {**CONFIG, "displayModeBar": True, "scrollZoom": True}
STILL = {"displayModeBar": False}
_GRID = "rgba(128,128,128,0.18)"
FAINT = "rgba(128,128,128,0.45)"
Box = Mapping[str, tuple[float, float]]


def layout(fig: go.Figure, x: str, y: str, *, height: int, legend: bool = True) -> go.Figure:
    """Margins, legend and axis titles (`x`, `y`) as on every figure; `height` in pixels."""
    fig.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 30 if legend else 10, "b": 8},
        showlegend=legend,
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "font": {"size": 12}},
        hoverlabel={"font": {"size": 12}},
        bargap=0.05,
        uirevision="keep",
    )
    axis = {"gridcolor": _GRID, "zeroline": False, "automargin": True, "ticks": ""}
    fig.update_xaxes(title={"text": x, "font": {"size": 13}, "standoff": 8}, **axis)
    fig.update_yaxes(title={"text": y, "font": {"size": 13}, "standoff": 16}, **axis)
    return fig


def _outline(fig: go.Figure, boxes: Box, x: str, y: str | None) -> None:
    """The range in force, as a frame."""
    if x not in boxes and y not in boxes:
        return
    frame: dict[str, Any] = {
        "type": "rect",
        "line": {"color": FAINT, "width": 1.5, "dash": "dot"},
        "layer": "below",
    }
    for name, ref, axis in (("x", "x", x), ("y", "y", y)):
        bounds = boxes.get(axis) if axis else None
        frame[f"{name}ref"] = ref if bounds else f"{ref} domain"
        frame[f"{name}0"], frame[f"{name}1"] = bounds or (0, 1)
    fig.add_shape(frame)


def norm_histogram(counts: pd.DataFrame, boxes: Box, *, bins: int = 50, height: int = 300) -> go.Figure:
    """`counts`: bin, verdict, n of `queries.latents.norm_histogram`; a bar a bin, on a log scale.

    Bars overlap rather than stack: on a log scale only heights from the ground can be read.
    """
    fig = go.Figure()
    middle = ((np.arange(bins) + 0.5) / bins).astype(np.float32)
    for verdict in ("unchanged", "uncertain", "redirected", "suppressed", "amplified"):
        own = counts[counts["verdict"] == verdict]
        height_of = np.zeros(bins, np.float32)
        height_of[own["bin"].to_numpy(int)] = own["n"].to_numpy(np.float32)
        if not height_of.any():
            continue
        fig.add_bar(
            x=middle,
            y=np.where(height_of > 0, height_of, np.nan).astype(np.float32),
            name=f"{LATENT_SIGNS[verdict]} {verdict}",
            marker={"color": theme.VERDICT_COLOUR[verdict], "line": {"width": 0}},
            opacity=0.75,
            hovertemplate=f"%{{y:,}} {verdict}<br>delta norm %{{x:.2f}}<extra></extra>",
        )
    fig.update_layout(barmode="overlay", dragmode="select", selectdirection="h")
    _outline(fig, boxes, "delta_norm", None)
    layout(fig, "base ← delta norm → tuned", "latents, log scale", height=height, legend=False)
    fig.update_xaxes(range=[0, 1], fixedrange=True)
    fig.update_yaxes(type="log", dtick=1, range=[-0.3, None], fixedrange=True)
    return fig


def verdict_scatter(
    points: pd.DataFrame,
    *,
    axes: tuple[str, str],
    titles: tuple[str, str],
    bounds: tuple[float, float, float, float],
    boxes: Box,
    density: np.ndarray | None = None,
    diagonal: bool = False,
    bare: bool = False,
    height: int = 300,
) -> go.Figure:
    """`points`: latent, x, y, verdict. `density` (bins, bins): counts behind them, within `bounds`."""
    groups = [
        (
            f"{LATENT_SIGNS[v]} {v}",
            theme.VERDICT_COLOUR[v],
            theme.VERDICT_MARKER[v],
            points["verdict"] == v,
        )
        for v in ("unchanged", "uncertain", "redirected", "suppressed", "amplified")
    ]
    return _scatter(points, groups, axes, titles, bounds, boxes, density, diagonal, bare, height, False)


def group_scatter(
    points: pd.DataFrame,
    groups: Sequence[str],
    *,
    axes: tuple[str, str],
    titles: tuple[str, str],
    bounds: tuple[float, float, float, float],
    boxes: Box,
    density: np.ndarray | None = None,
    height: int = 300,
) -> go.Figure:
    """As `verdict_scatter`, coloured by the column `grp`, of which `groups` get a colour of their own."""
    markers = ("circle", "triangle-up", "diamond", "square", "triangle-down", "cross", "star")
    layers = []
    for i, group in enumerate(groups[:7]):
        mask = points["grp"] == group
        layers.append((words.plotly(group, 28), theme.GROUP_COLOURS[i], markers[i], mask))
    rest = ~points["grp"].isin(list(groups[:7]))
    layers.insert(0, ("other", theme.GROUP_COLOURS[-1], "circle", rest))
    return _scatter(points, layers, axes, titles, bounds, boxes, density, False, True, height, True)


def _scatter(
    points: pd.DataFrame,
    groups: Sequence[tuple[str, str, str, pd.Series]],
    axes: tuple[str, str],
    titles: tuple[str, str],
    bounds: tuple[float, float, float, float],
    boxes: Box,
    density: np.ndarray | None,
    diagonal: bool,
    bare: bool,
    height: int,
    legend: bool,
) -> go.Figure:
    fig = go.Figure()
    x0, x1, y0, y1 = bounds
    if density is not None:
        bins = len(density)
        fig.add_heatmap(
            z=np.log1p(density).astype(np.float32),
            x0=x0 + (x1 - x0) / bins / 2,
            dx=(x1 - x0) / bins,
            y0=y0 + (y1 - y0) / bins / 2,
            dy=(y1 - y0) / bins,
            colorscale=[
                [0, "rgba(128,128,128,0)"],
                [0.05, "rgba(128,128,128,0.18)"],
                [1, "rgba(128,128,128,0.85)"],
            ],
            showscale=False,
            hoverinfo="skip",
        )
    add = fig.add_scattergl if len(points) > MAX_SHAPES else fig.add_scatter
    for name, colour, marker, mask in groups:
        own = points[mask]
        if own.empty:
            continue
        size = 9 if marker.startswith("triangle") else 6  # the few that changed must not drown
        add(
            x=own["x"].to_numpy(np.float32),
            y=own["y"].to_numpy(np.float32),
            customdata=own["latent"].to_numpy(np.int32),
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": marker, "size": size, "opacity": 0.75, "line": {"width": 0}},
            hovertemplate=(
                f"latent %{{customdata}}<br>{titles[0]} %{{x:.3g}}<br>{titles[1]} %{{y:.3g}}<extra></extra>"
            ),
        )
    if diagonal:
        low, high = max(x0, y0), min(x1, y1)
        fig.add_shape(
            type="line",
            x0=low,
            x1=high,
            y0=low,
            y1=high,
            layer="below",
            line={"color": FAINT, "width": 1, "dash": "dash"},
        )
    _outline(fig, boxes, *axes)
    layout(fig, *(("", "") if bare else titles), height=height, legend=legend)
    # Streamlit reports no clicks while dragging draws boxes: the map, made for clicking, starts with panning.
    fig.update_layout(dragmode="pan" if bare else "select", legend={"itemsizing": "constant"})
    fig.update_xaxes(range=[x0, x1], showticklabels=not bare, showgrid=not bare)
    fig.update_yaxes(range=[y0, y1], showticklabels=not bare, showgrid=not bare)
    return fig
