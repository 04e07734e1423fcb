"""Predicted effects as bars for the first screen, drawn by bars.js; a row opens its area."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import state, theme, words

_CSS = """
.mneme-bars { display: grid; grid-template-columns: minmax(6rem, 38%) 1fr auto; font-size: .86rem; margin-top: .2rem; }
.mneme-bars .row { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; gap: .6rem; align-items: center;
  padding: .17rem 0; border: 0; border-radius: 4px; background: none; color: inherit; font: inherit; cursor: pointer; }
.mneme-bars .row:hover { background: rgba(128, 128, 128, .14); }
.mneme-bars .row:focus-visible { outline: 2px solid var(--st-primary-color); }
.mneme-bars .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
.mneme-bars .row:hover .name { text-decoration: underline; }
.mneme-bars .track { position: relative; height: .85rem; }
.mneme-bars .bar { position: absolute; left: 0; top: 0; bottom: 0; border-radius: 0 2px 2px 0; }
.mneme-bars .range { position: absolute; top: calc(50% - 1px); height: 2px; background: rgba(128, 128, 128, .75); }
.mneme-bars .number { font-variant-numeric: tabular-nums; white-space: nowrap; text-align: left; }
"""
_mount = st.components.v2.component(
    "mneme_bars",
    html='<div class="mneme-bars"></div>',
    css=_CSS,
    js=(Path(__file__).parent / "bars.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def effect_bars(effects: pd.DataFrame, *, key: str, limit: int = 7) -> None:
    """The `limit` largest effects; one that is clicked opens the page Side effects at it."""
    _mount(key=key, data=rows(effects.head(limit)), on_area_change=lambda: _open(key))


def rows(top: pd.DataFrame) -> list[dict[str, Any]]:
    """What bars.js draws: name, bar with its 95 % interval, sign and size.

    top: rows of `queries.effects.effects`, the largest first.
    """
    ends = top["ci_high"].fillna(top["effect"])
    longest = max(float(ends.max()), float(top["effect"].max()), 1e-12)

    def along(value: float) -> float | None:
        return None if words.missing(value) else round(max(0.0, min(100.0, 100 * value / longest)), 1)

    found = []
    for row in top.to_dict("records"):
        low, high = along(row["ci_low"]), along(row["ci_high"])
        name = words.plain(row["name"], 60)
        between = words.interval(row["effect"], row["ci_low"], row["ci_high"], signed=False)
        found.append(
            {
                "key": row["category"],
                "name": name,
                "told": f"{name}: {words.plain(row['verdict'], 20)}, predicted effect {between}",
                "colour": theme.EFFECT_COLOUR.get(row["verdict"], "#8c9299"),
                "sign": theme.EFFECT_SIGN.get(row["verdict"], ""),
                "number": words.number(row["effect"]),
                "width": along(row["effect"]),
                "low": low if high is not None else None,
                "high": high,
            }
        )
    return found


def _open(key: str) -> None:
    if area := st.session_state[key].get("area"):
        st.session_state["area"] = area
        state.go("app_pages/side_effects.py", area=area)
