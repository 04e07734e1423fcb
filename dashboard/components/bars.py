"""Predicted effects as bars of plain HTML, for the first screen: a third plot there would cost a third of a second."""

from __future__ import annotations

import pandas as pd

from dashboard.components import looks, words

_STYLE = (
    "<style>.mneme-bars{display:grid;grid-template-columns:minmax(6rem,38%) 1fr auto;gap:0.28rem 0.6rem;"
    "align-items:center;font-size:0.86rem;margin-top:0.35rem}"
    ".mneme-bars .name{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;text-align:right}"
    ".mneme-bars .track{position:relative;height:0.85rem}"
    ".mneme-bars .bar{position:absolute;left:0;top:0;bottom:0;border-radius:0 2px 2px 0}"
    ".mneme-bars .range{position:absolute;top:calc(50% - 1px);height:2px;background:rgba(128,128,128,.75)}"
    ".mneme-bars .number{font-variant-numeric:tabular-nums;white-space:nowrap}</style>"
)


def effect_bars(effects: pd.DataFrame, limit: int = 7) -> str:
    """The `limit` largest effects as HTML: name, bar with its 95 % interval, sign and size.

    effects: rows of `queries.effects.effects`, the largest first.
    """
    top = effects.head(limit)
    ends = top["ci_high"].fillna(top["effect"])
    longest = max(float(ends.max()), float(top["effect"].max()), 1e-12)

    def along(value: float) -> float:
        return max(0.0, min(100.0, 100 * value / longest))

    parts = [_STYLE, '<div class="mneme-bars" role="list">']
    for row in top.to_dict("records"):
        colour, sign = (
            looks.EFFECT_COLOUR.get(row["verdict"], "#8c9299"),
            looks.EFFECT_SIGN.get(row["verdict"], ""),
        )
        between = words.interval(row["effect"], row["ci_low"], row["ci_high"], signed=False)
        name = words.html(row["name"], 60)
        told = f"{name}: {words.html(row['verdict'], 20)}, predicted effect {between}"
        parts.append(f'<span class="name" title="{told}">{name}</span><span class="track" title="{told}">')
        parts.append(
            f'<span class="bar" style="width:{along(row["effect"]):.1f}%;background:{colour}"></span>'
        )
        if not words.missing(row["ci_low"]) and not words.missing(row["ci_high"]):
            low, high = along(row["ci_low"]), along(row["ci_high"])
            parts.append(f'<span class="range" style="left:{low:.1f}%;width:{high - low:.1f}%"></span>')
        parts.append(
            f'</span><span class="number"><span style="color:{colour}">{sign}</span>'
            f" {words.number(row['effect'])}</span>"
        )
    return "".join([*parts, "</div>"])
