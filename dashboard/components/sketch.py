"""The Overview's two plots: small, drawn by sketch.js, so that the first screen need not wait for Plotly's code.

The same data, colours, markers and gestures as the plots of the other pages (charts.py, plots.py): a box filters, a
point opens its latent. Only numbers and this module's own words reach the browser's code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.components import charts, plots, theme
from mneme.store.queries import latents as queries
from mneme.store.queries.latents import LatentFilter
from mneme.store.run import Run

_BINS = 50
_ORDER = ("unchanged", "uncertain", "suppressed", "amplified")  # the few that changed on top
_CSS = """
.mneme-sketch { position: relative; touch-action: pan-y; }
.mneme-sketch svg { display: block; cursor: crosshair; font-family: var(--st-font); }
.mneme-sketch text { fill: var(--st-text-color); font-size: 12px; opacity: .85; user-select: none; }
.mneme-sketch text.title { font-size: 13px; opacity: 1; }
.mneme-sketch .grid { stroke: rgba(128, 128, 128, .18); }
.mneme-sketch .diagonal { stroke: rgba(128, 128, 128, .45); stroke-dasharray: 5 4; }
.mneme-sketch .box { fill: rgba(128, 128, 128, .15); stroke: rgba(128, 128, 128, .9); stroke-dasharray: 3 3; }
.mneme-sketch .note { position: absolute; display: none; pointer-events: none; white-space: pre; font-size: 12px;
  padding: 3px 7px; border-radius: 4px; z-index: 5;
  background: var(--st-text-color); color: var(--st-background-color); }
"""
_mount = st.components.v2.component(
    "mneme_sketch",
    html='<div class="mneme-sketch"></div>',
    css=_CSS,
    js=(Path(__file__).parent / "sketch.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def norms(run: Run, *, key: str, height: int) -> None:
    """Histogram of delta_norm by verdict, all live latents."""
    rows = queries.norm_histogram(run, LatentFilter(), _BINS)
    if rows.empty:
        plots.nothing()
        return
    _show(bars(rows, height), key, "delta_norm", None)


def betas(run: Run, *, key: str, height: int) -> None:
    """beta(b) against beta(f): the changed latents, and a density of all where they are many."""
    data = plots.scatter_data(run, LatentFilter(), "beta_base", "beta_tuned", charts.MAX_SHAPES)
    if data is None:
        plots.nothing()
        return
    _show(scatter(*data, height), key, "beta_base", "beta_tuned")


def bars(counts: pd.DataFrame, height: int) -> dict[str, Any]:
    """What sketch.js draws of rows (bin, verdict, n) of `queries.latents.norm_histogram`."""
    groups = []
    for verdict in _ORDER:
        own = counts[counts["verdict"] == verdict]
        filled = np.zeros(_BINS, int)
        filled[own["bin"].to_numpy(int)] = own["n"].to_numpy(int)
        groups.append({"name": verdict, "colour": theme.VERDICT_COLOUR[verdict], "counts": filled.tolist()})
    return {
        "kind": "bars",
        "height": height,
        "alt": "Histogram of delta norm by verdict",
        "x": {"title": "base ← delta norm → tuned", "low": 0, "high": 1},
        "y": {"title": "latents, log scale"},
        "bars": groups,
    }


def scatter(
    points: pd.DataFrame,
    density: np.ndarray | None,
    bounds: tuple[float, float, float, float],
    height: int,
) -> dict[str, Any]:
    """What sketch.js draws of `plots.scatter_data`."""
    groups = []
    for verdict in _ORDER:
        own = points[points["verdict"] == verdict]
        if own.empty:
            continue
        groups.append(
            {
                "colour": theme.VERDICT_COLOUR[verdict],
                "shape": theme.VERDICT_MARKER[verdict],
                "x": [float(f"{v:.4g}") for v in own["x"]],
                "y": [float(f"{v:.4g}") for v in own["y"]],
                "latent": own["latent"].astype(int).tolist(),
            }
        )
    x0, x1, y0, y1 = bounds
    share = None
    if density is not None:
        log = np.log1p(density)
        share = np.round(log / max(float(log.max()), 1e-9), 2).tolist()
    return {
        "kind": "points",
        "height": height,
        "alt": "Scatter of beta in the base against the tuned model",
        "x": {"title": "beta(b), base", "low": x0, "high": x1},
        "y": {"title": "beta(f), tuned", "low": y0, "high": y1},
        "points": groups,
        "density": share,
    }


def _show(data: dict[str, Any], key: str, x: str, y: str | None) -> None:
    _mount(key=key, data=data, on_box_change=_box(key, x, y), on_latent_change=_latent(key))


def _box(key: str, x: str, y: str | None) -> Callable[[], None]:
    def act() -> None:
        box = st.session_state[key].get("box")
        plots.act({"box": [box]} if isinstance(box, dict) else None, x, y, leave=True)

    return act


def _latent(key: str) -> Callable[[], None]:
    def act() -> None:
        plots.act({"points": [{"customdata": st.session_state[key].get("latent")}]}, "", None)

    return act
