"""Text and numbers as people see them.

Every text of a run (tokens, labels, model names, topics) is hostile: it reaches a page only through `plain`
(for places that show plain text), `markdown` or `html`.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

# Numbers read the same on the pages and in the report.
from mneme.attribution.reasons import UNDETERMINED
from mneme.report.format import count, duration, missing, number, percent

__all__ = [
    "between", "count", "duration", "html", "interval", "markdown", "missing", "number", "number_of", "percent",
    "plain", "plotly", "threshold",
]  # fmt: skip

# Markdown, and Streamlit's own :colour[...], :material/...: and $...$.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&@^=/])")
# Addresses become links even when escaped; a word joiner inside one prevents it.
_LINK = re.compile(r"(?<=\w):(?=//)|(?<=www)(?=\.)|@", re.IGNORECASE)
_VISIBLE = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def plain(text: object, limit: int = 80) -> str:
    """One line of at most `limit` characters; control, direction and zero-width characters neutralised."""
    if missing(text):
        return ""
    # Ten times the limit is enough to cut from: a token may be of any length.
    cleaned = "".join(_neutral(c) for c in str(text)[: 10 * limit])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def markdown(text: object, limit: int = 80) -> str:
    """`plain`, escaped for st.markdown, captions, labels and every other place that reads Markdown."""
    return _MARKDOWN.sub(r"\\\1", _LINK.sub("\\g<0>\u2060", plain(text, limit)))


def html(text: object, limit: int = 80) -> str:
    """`plain`, escaped for st.html, attributes too."""
    return _html.escape(plain(text, limit), quote=True)


def plotly(text: object, limit: int = 80) -> str:
    """`plain`, for Plotly's texts, which read a few tags but not every entity."""
    return _html.escape(plain(text, limit), quote=False)


def threshold(text: object, *, share: bool) -> str:
    """warn > 0.1, fail > 0.15; for a share in the percent its value is shown in: warn > 10 %, fail > 15 %."""
    told = plain(text, 60)
    return re.sub(r"\d+(\.\d+)?", lambda found: f"{100 * float(found[0]):.3g} %", told) if share else told


def number_of(n: int, noun: str) -> str:
    """1 warning, 2 warnings."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def between(low: float | None, high: float | None, *, signed: bool = True) -> str:
    """+0.90 … +1.50; an en dash where not measured."""
    if missing(low) or missing(high):
        return "–"
    return f"{number(low, signed=signed)} … {number(high, signed=signed)}"


def bounds(value: float | None, low: float | None, high: float | None) -> str:
    """A log ratio's interval: +0.90 … +1.50; an end that the evidence doesn't bound is undetermined."""
    if missing(value):
        return "–"
    if missing(low) and missing(high):
        return UNDETERMINED
    return " … ".join(UNDETERMINED if missing(end) else number(end, signed=True) for end in (low, high))


def interval(value: float | None, low: float | None, high: float | None, *, signed: bool = True) -> str:
    """+1.20 [+0.90, +1.50]."""
    if missing(value):
        return "–"
    if missing(low) or missing(high):
        return number(value, signed=signed)
    return f"{number(value, signed=signed)} [{number(low, signed=signed)}, {number(high, signed=signed)}]"


def _neutral(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    kind = unicodedata.category(character)
    return "·" if kind in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") else character
