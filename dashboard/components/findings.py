"""The findings as cards: name, areas, size, seeds, causal share, and how far they move which share of the documents."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard.components import words
from mneme.report.format import missing

MOST = 5
NOT_TESTED = "not tested"
_WIDTH, _HEIGHT = 200, 34
_AREAS = 3

HELP = (
    "A finding is a set of changed latents whose predicted changes point one way at the same tokens. The share is that "
    "of the squared difference between the models that it explains by itself; the curve shows how far it moves the "
    "documents, the most moved first. Seeds: `mneme stability`; causal share, the KL undone where its change alone is "
    "patched out: `mneme causal`."
)


def cards_html(table: pd.DataFrame) -> str:
    """The first few findings, side by side; they wrap on a narrow screen. table: `queries.findings`."""
    cards = "".join(_card(row) for row in table.head(MOST).to_dict("records"))
    return (
        '<div role="list" aria-label="Findings" style="display:flex;flex-wrap:wrap;gap:.75rem">'
        + cards
        + "</div>"
    )


def _card(row: Mapping[Any, Any]) -> str:
    facts = (
        ("of the difference", words.percent(row["explained"])),
        ("latents", words.count(row["n_latents"])),
        ("NLL where it fires", words.interval(row["nll_change"], row["nll_low"], row["nll_high"])),
        ("found in seeds", seeds(row)),
        ("causal share", causal(row)),
    )
    lines = "".join(
        f'<div style="display:flex;justify-content:space-between;gap:.5rem"><span style="opacity:.7">{name}</span>'
        f'<span style="text-align:right">{words.html(value)}</span></div>'
        for name, value in facts
    )
    return (
        '<div role="listitem" style="flex:1 1 13rem;max-width:22rem;min-width:0;border:1px solid rgba(128,128,128,.35);'
        'border-radius:.5rem;padding:.7rem .85rem">'
        f'<div style="font-weight:600;overflow-wrap:anywhere"><bdi>{words.html(row["name"], 100)}</bdi></div>'
        '<div style="opacity:.75;font-size:.875rem;min-height:2.6em;overflow-wrap:anywhere">'
        f"{areas(row['areas'])}</div>"
        f"{spark(row['profile'])}"
        f'<div style="margin-top:.4rem;font-size:.875rem">{lines}</div></div>'
    )


def areas(found: Sequence[str]) -> str:
    """The first few areas, escaped."""
    names = ", ".join(f"<bdi>{words.html(area, 60)}</bdi>" for area in list(found)[:_AREAS])
    more = len(found) - _AREAS
    return names + (f" and {more} more" if more > 0 else "") if names else "no area beyond the margin"


def seeds(row: Mapping[Any, Any]) -> str:
    """k of n, or that it was not tested."""
    if missing(row["n_seeds"]):
        return NOT_TESTED
    return f"{int(row['seeds_found'])} of {int(row['n_seeds'])}"


def causal(row: Mapping[Any, Any]) -> str:
    """The share of KL undone, and of what as many principal directions undo."""
    if missing(row["causal_share"]):
        return NOT_TESTED
    beside = "" if missing(row["of_pca"]) else f" ({words.percent(row['of_pca'])} of PCA's)"
    return words.percent(row["causal_share"]) + beside


def spark(profile: Sequence[float]) -> str:
    """Displacement of the documents, the most displaced first, as a filled curve; '' of nothing.

    An image: st.html leaves out SVG that stands in a page itself.
    """
    values = [float(value) for value in profile]
    most = max(values, default=0.0)
    if len(values) < 2 or not most > 0:
        return ""
    points = [
        f"{_WIDTH * i / (len(values) - 1):.1f},{_HEIGHT - (_HEIGHT - 2) * value / most:.1f}"
        for i, value in enumerate(values)
    ]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">'
        f'<path d="M0,{_HEIGHT} L{" L".join(points)} L{_WIDTH},{_HEIGHT} Z" fill="#d55e00" fill-opacity=".25"/>'
        f'<polyline points="{" ".join(points)}" fill="none" stroke="#d55e00" stroke-width="1.5"'
        ' vector-effect="non-scaling-stroke"/></svg>'
    )
    encoded = base64.b64encode(svg.encode()).decode()
    return (
        f'<img src="data:image/svg+xml;base64,{encoded}" style="display:block;width:100%;height:{_HEIGHT}px"'
        f' alt="Displacement by document, at most {words.number(most)} of the typical deviation">'
    )
