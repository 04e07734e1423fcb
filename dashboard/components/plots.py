"""The linked plots, wired: a box becomes a range, a click opens a latent or a subject area."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from plotly.graph_objects import Figure

from dashboard.components import charts, effect_charts, filters, state
from dashboard.components.selection import read_gesture
from mneme._util.vocabulary import CHANGED
from mneme.store.queries import latents as queries
from mneme.store.queries.latents import LatentFilter
from mneme.store.run import Run


def norms(run: Run, where: LatentFilter, *, key: str, height: int, leave: bool = False) -> None:
    """Histogram of delta_norm by verdict; leave: a box opens the page Latents."""
    rows = queries.norm_histogram(run, where)
    if rows.empty:
        nothing()
        return
    linked(
        charts.norm_histogram(rows, where.boxes, height=height),
        key,
        "delta_norm",
        None,
        "Histogram of delta norm by verdict",
        leave=leave,
    )


def betas(
    run: Run,
    where: LatentFilter,
    *,
    key: str,
    height: int,
    most: int = charts.MAX_POINTS,
    leave: bool = False,
) -> None:
    """beta(b) against beta(f); of more latents than `most` only the changed ones are points.

    leave: a click opens a latent, and a box, of Plotly's tools, the page Latents: Streamlit tells of clicks only where
    dragging draws no box.
    """
    data = scatter_data(run, where, "beta_base", "beta_tuned", most)
    if data is None:
        nothing()
        return
    points, density, bounds = data
    figure = charts.verdict_scatter(
        points,
        axes=("beta_base", "beta_tuned"),
        titles=("beta(b), base", "beta(f), tuned"),
        bounds=bounds,
        boxes=where.boxes,
        density=density,
        diagonal=True,
        height=height,
    )
    if leave:
        figure.update_layout(dragmode="pan").update_xaxes(fixedrange=True).update_yaxes(fixedrange=True)
    linked(
        figure,
        key,
        "beta_base",
        "beta_tuned",
        "Scatter of beta in the base against the tuned model",
        leave=leave,
    )


def map_of(run: Run, where: LatentFilter, *, key: str, height: int) -> None:
    """UMAP of the decoders, by verdict."""
    data = scatter_data(run, where, "umap_x", "umap_y")
    if data is None:
        nothing()
        return
    figure = map_figure(*data, where, height)
    figure.update_layout(dragmode="select")  # as its neighbours; the page Map is the one to click on
    linked(figure, key, "umap_x", "umap_y", "Map of the latents")


def map_figure(
    points: pd.DataFrame,
    density: np.ndarray | None,
    bounds: tuple[float, float, float, float],
    where: LatentFilter,
    height: int,
) -> Figure:
    """The map by verdict, of what `scatter_data` gives for umap_x and umap_y."""
    return charts.verdict_scatter(
        points,
        axes=("umap_x", "umap_y"),
        titles=("across", "up"),
        bounds=bounds,
        boxes=where.boxes,
        density=density,
        bare=True,
        height=height,
    )


def scatter_data(
    run: Run, where: LatentFilter, x: str, y: str, most: int = charts.MAX_POINTS
) -> tuple[pd.DataFrame, np.ndarray | None, tuple[float, float, float, float]] | None:
    """Points that pass the filter, and a density of all where a filter is on or points are too many.

    None where no latent passes. Of too many, only the changed ones are points, and these may be none.
    """
    total = queries.count(run, where)
    if not total:
        return None
    bounds = (*_padded(queries.span(run, x)), *_padded(queries.span(run, y)))
    many = total > most
    shown = replace(where, verdicts=where.verdicts or CHANGED) if many else where
    points = queries.points(run, shown, x, y, limit=most)
    density = queries.density(run, LatentFilter(), x, y, bounds) if many or not where.empty else None
    return points, density, bounds


def areas(effects: pd.DataFrame, *, key: str, height: int, limit: int, leave: bool = False) -> None:
    """Predicted effects of the `limit` largest of `effects`; a bar that is clicked chooses its area.

    leave: and opens the page Side effects.
    """
    shown = effects.head(limit)

    def chosen() -> None:
        at = read_gesture(
            st.session_state[key].get("selection"), "", None
        ).latent  # a bar's number, not a latent's
        if at is None or at >= len(shown):
            return
        st.session_state["area"] = area = shown["category"].iloc[at]
        if leave:
            state.go("app_pages/side_effects.py", area=area)

    st.plotly_chart(
        effect_charts.effect_bars(shown, height=height, legend=not leave),
        key=key,
        on_select=chosen,
        selection_mode="points",
        config=charts.STILL,
        alt="Predicted effect by category, with intervals",
    )


def linked(
    figure: Figure,
    key: str,
    x: str,
    y: str | None,
    alt: str,
    config: dict[str, Any] = charts.CONFIG,
    *,
    leave: bool = False,
) -> None:
    """Draw a figure whose boxes filter and whose points open."""
    st.plotly_chart(
        figure,
        key=key,
        on_select=_chosen(key, x, y, leave),
        selection_mode=("points", "box"),
        config=config,
        alt=alt,
    )


def _chosen(key: str, x: str, y: str | None, leave: bool) -> Callable[[], None]:
    return lambda: act(st.session_state[key].get("selection"), x, y, leave=leave)


def act(selection: Mapping[str, Any] | None, x: str, y: str | None, *, leave: bool = False) -> None:
    """Do what a gesture on a plot means; a callback. leave: a box opens the page Latents."""
    gesture = read_gesture(selection, x, y)
    if gesture.ranges:
        filters.add_ranges(gesture.ranges)
        if leave:
            state.go("app_pages/latents.py", range=st.session_state["range"])
    elif gesture.latent is not None:
        state.open_latent(gesture.latent)


def _padded(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    room = 0.06 * (high - low)
    return low - room, high + room


def nothing() -> None:
    """In place of a plot."""
    st.info("No latent passes the filter.", icon=":material/filter_alt_off:")
