"""Numbers with units, and hostile text made harmless: one way of writing both in every format.

Three significant digits, thousands separated, shares as percentages, a real minus sign, and an en dash
where nothing was measured. Every text of a run (tokens, labels, model names, topics, notes) may attack
whoever shows it: `visible` neutralises its characters, then `markdown` or the HTML template's autoescape
neutralises its markup.
"""

from __future__ import annotations

import html as _html
import math
import re
import unicodedata

from mneme.attribution.reasons import UNDETERMINED

ABSENT = "–"
_ESCAPED = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&@^=/\"'])")
_SIGNS = {"\n": "↵", "\r": "␍", "\t": "⇥", "\u2028": "↵", "\u2029": "↵"}
_MARKS_IN_A_ROW = 3


def missing(value: object) -> bool:
    """None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:
        return True


def number(value: float | None, unit: str = "", *, signed: bool = False) -> str:
    """Three significant digits: 0.0123, 1.23, 12,345, 1.2e−6; `unit` follows after a space."""
    if value is None or missing(value) or not math.isfinite(value):
        return ABSENT
    return _digits(float(value), signed) + (f" {unit}" if unit else "")


def _digits(x: float, signed: bool) -> str:
    sign = "+" if signed and x > 0 else ""
    if x == 0:
        return "0"
    if abs(x) >= 1e6 or abs(x) < 1e-4:
        mantissa, exponent = f"{x:.1e}".split("e")
        return f"{sign}{mantissa}e{int(exponent)}".replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(x))))
    return f"{sign}{x:,.{digits}f}".replace("-", "−")


def decimals(value: float | None, places: int = 2) -> str:
    """A fixed number of decimals, for columns of scores between -1 and 1: 0.84."""
    if value is None or missing(value):
        return ABSENT
    return f"{value:.{places}f}".replace("-", "−")


def count(value: float | str | None) -> str:
    """A whole number, also one read as text: 12,345."""
    return ABSENT if value is None or missing(value) else f"{int(value):,}"


def of_all(some: int | None, of: int | None) -> str:
    """3 of 12,345."""
    return ABSENT if missing(some) or missing(of) else f"{count(some)} of {count(of)}"


def percent(value: float | None) -> str:
    """A share as a percentage: 12.3 %, 0.012 %."""
    if value is None or missing(value):
        return ABSENT
    x = 100 * float(value)
    return f"{x:.1f} %" if abs(x) >= 1 or x == 0 else f"{x:.2g} %"


def interval(
    value: float | None, low: float | None, high: float | None, unit: str = "", *, signed: bool = False
) -> str:
    """+1.20 [+0.90, +1.50] nats, to the decimals of the largest of the three; only the value without ends."""
    known = [x for x in (value, low, high) if x is not None and math.isfinite(x)]
    if len(known) < 3:
        return number(value, unit, signed=signed)
    largest = max(abs(x) for x in known)
    if not 1e-4 <= largest < 1e6:
        told = [number(x, signed=signed) for x in known]
    else:
        digits = max(0, 2 - math.floor(math.log10(largest)))
        told = [f"{x:{'+' if signed else ''},.{digits}f}".replace("-", "−") for x in known]
    return f"{told[0]} [{told[1]}, {told[2]}]" + (f" {unit}" if unit else "")


def bounded(value: float | None, low: float | None, high: float | None) -> str:
    """A log ratio: +1.20 [+0.90, +1.50]; an end that the evidence doesn't bound is told as undetermined."""
    if value is None or (low is not None and high is not None):
        return interval(value, low, high, signed=True)
    if low is None and high is None:
        return f"{number(value, signed=True)}, interval {UNDETERMINED}"
    ends = (UNDETERMINED if end is None else number(end, signed=True) for end in (low, high))
    return f"{number(value, signed=True)} [{', '.join(ends)}]"


def with_unit(value: float | None, unit: str | None) -> str:
    """A number in the unit a table names; a 'share of tokens' becomes 12.3 % of tokens."""
    if unit and unit.split()[0] == "share":
        return percent(value) + unit.removeprefix("share")
    return number(value, unit or "")


def duration(seconds: float | None) -> str:
    """12 s, 3 min 20 s, 1 h 5 min."""
    if seconds is None or missing(seconds):
        return ABSENT
    whole = round(float(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, an ellipsis in place of the rest."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def visible(text: object, limit: int = 200) -> str:
    """One line of at most `limit` characters: control, direction and zero-width characters become signs.

    No more than three combining marks in a row are kept, so that a token can't be drawn over its neighbours.
    """
    if missing(text):
        return ""
    out, marks = [], 0
    # Ten times the limit is enough to cut from: a token may be of any length.
    for character in str(text)[: 10 * limit]:
        kind = unicodedata.category(character)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks <= _MARKS_IN_A_ROW:
            out.append(_sign(character, kind))
    return cut("".join(out), limit)


def _sign(character: str, kind: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if kind in ("Cc", "Cf", "Co", "Cs", "Cn"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def markdown(text: object, limit: int = 200) -> str:
    """`visible`, with every character that Markdown, HTML or Streamlit's Markdown reads escaped.

    `<`, `>` and `&` become entities, which hold even where a renderer ignores a backslash.
    """
    escaped = _ESCAPED.sub(lambda m: m[1] if m[1] in "<>&\"'" else "\\" + m[1], visible(text, limit))
    return _html.escape(escaped, quote=True)


def cell(text: object, limit: int = 1000) -> str:
    """`visible`, for a CSV cell: a leading =, +, - or @ is quoted, else a spreadsheet would run it."""
    shown = visible(text, limit)
    return "'" + shown if shown[:1] in ("=", "+", "-", "@") else shown
