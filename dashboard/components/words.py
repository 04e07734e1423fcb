"""Text and numbers as people see them.

Every text of a run (tokens, labels, model names, topics) is hostile: it reaches a page only through `plain`
(for places that show plain text), `markdown` or `html`.
"""

from __future__ import annotations

import html as _html
import math
import re
import unicodedata

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


def missing(value: object) -> bool:
    """None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True


def number(value: object, *, signed: bool = False) -> str:
    """Three significant digits, thousands separated: 0.0123, 1.23, 12,345; an en dash where not measured."""
    if missing(value) or not math.isfinite(float(value)):  # type: ignore[arg-type]
        return "–"
    x = float(value)  # type: ignore[arg-type]
    sign = "+" if signed and x > 0 else ""
    if x == 0:
        return "0"
    if abs(x) >= 1e6 or abs(x) < 1e-4:
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{sign}{mantissa}e{int(exponent)}".replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(x))))
    return f"{sign}{x:,.{digits}f}".replace("-", "−")


def count(value: object) -> str:
    """A whole number: 12,345."""
    return "–" if missing(value) else f"{int(value):,}"  # type: ignore[call-overload]


def percent(value: object) -> str:
    """A share as a percentage: 12.3 %, 0.0123 %."""
    if missing(value):
        return "–"
    x = 100 * float(value)  # type: ignore[arg-type]
    return f"{x:.1f} %" if abs(x) >= 1 else f"{x:.2g} %"


def number_of(n: int, noun: str) -> str:
    """1 warning, 2 warnings."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def between(low: object, high: object, *, signed: bool = True) -> str:
    """+0.90 … +1.50; an en dash where not measured."""
    if missing(low) or missing(high):
        return "–"
    return f"{number(low, signed=signed)} … {number(high, signed=signed)}"


def interval(value: object, low: object, high: object, *, signed: bool = True) -> str:
    """+1.20 [+0.90, +1.50]."""
    if missing(value):
        return "–"
    if missing(low) or missing(high):
        return number(value, signed=signed)
    return f"{number(value, signed=signed)} [{number(low, signed=signed)}, {number(high, signed=signed)}]"


def duration(seconds: object) -> str:
    """12 s, 3 min 20 s, 1 h 5 min."""
    if missing(seconds):
        return "–"
    whole = round(float(seconds))  # type: ignore[arg-type]
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _neutral(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    kind = unicodedata.category(character)
    return "·" if kind in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") else character
