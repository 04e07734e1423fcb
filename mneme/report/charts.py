"""The report's three charts as inline SVG, drawn from numbers alone: no scripts, no text of the run except
names of categories, which are escaped.

Colours come from CSS classes, so that one drawing serves light, dark and paper; classes of latents differ
by shape too. Coordinates are rounded to a tenth of a unit to keep the file small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from mneme.report.format import ABSENT, count, interval, visible
from mneme.report.latents import Bin, Point
from mneme.report.model import Effect

SHAPES = {
    "unchanged": "M{x} {y}m-1.6 0a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0-3.2 0z",
    "uncertain": "M{x} {y}m0-2.6l2.6 2.6l-2.6 2.6l-2.6-2.6z",
    "redirected": "M{x} {y}m4 0l-6.4-3.6v7.2z",
    "suppressed": "M{x} {y}m0 4l-3.6-6.4h7.2z",
    "amplified": "M{x} {y}m0-4l3.6 6.4h-7.2z",
}
"""A marker for each verdict, in drawing order."""
MOST_ROWS = 24


def norm_histogram(bins: Sequence[Bin]) -> Markup:
    """Decoder norms: how many latents lie at each delta_norm, on a logarithmic count."""
    if not bins:
        return Markup("")
    left, top, wide, high = 58, 12, 390, 327
    decades = max(1, math.ceil(math.log10(max(b.n for b in bins) + 1)))

    def y(n: int) -> float:
        return top + high * (1 - math.log10(n + 1) / decades)

    parts = []
    for decade in range(decades + 1):
        n = 10**decade
        if (at := y(n)) >= top:
            parts.append(f'<path class="grid" d="M{left} {at:.1f}h{wide}"/>')
            parts.append(f'<text class="tick end" x="{left - 6}" y="{at + 4:.1f}">{count(n)}</text>')
    for b in bins:
        if b.n:
            x, width = left + wide * b.low, wide * (b.high - b.low)
            middle = (b.low + b.high) / 2
            kind = "suppressed" if middle < 0.3 else "amplified" if middle > 0.7 else "unchanged"
            parts.append(
                f'<rect class="{kind}" x="{x + 0.6:.1f}" y="{y(b.n):.1f}" width="{width - 1.2:.1f}"'
                f' height="{top + high - y(b.n):.1f}">'
                f"<title>{b.low:.2f} to {b.high:.2f}: {count(b.n)} latents</title></rect>"
            )
    parts.append(f'<path class="axis" d="M{left} {top + high}h{wide}"/>')
    for value, name in (
        (0, "0 base only"),
        (0.25, "0.25"),
        (0.5, "0.5 both"),
        (0.75, "0.75"),
        (1, "1 tuned only"),
    ):
        anchor = "mid" if 0 < value < 1 else "end" if value else "start"
        x = left + wide * value
        parts.append(f'<text class="tick {anchor}" x="{x}" y="{top + high + 17}">{name}</text>')
    parts.append(f'<text class="title mid" x="{left + wide / 2}" y="{top + high + 36}">delta_norm</text>')
    parts.append(
        f'<text class="title mid" transform="translate(9 {top + high / 2}) rotate(-90)">latents</text>'
    )
    return _svg(460, 385, "Histogram of delta_norm, the difference of a latent's two decoder norms", parts)


def beta_scatter(points: Sequence[Point]) -> Markup:
    """Latent scaling: each latent's weight in the base model (across) and in the tuned one (up)."""
    if not points:
        return Markup("")
    left, top, side = 50, 12, 330
    values = sorted(v for p in points for v in (p.beta_base, p.beta_tuned))
    low = min(-0.1, _quantile(values, 0.002))
    high = max(1.2, _quantile(values, 0.998))
    ticks = _ticks(low, high, 5)

    def x(v: float) -> float:
        return left + side * (min(max(v, low), high) - low) / (high - low)

    def y(v: float) -> float:
        return top + side - (x(v) - left)

    parts = []
    for t in ticks:
        parts.append(f'<path class="grid" d="M{x(t):.1f} {top}v{side}M{left} {y(t):.1f}h{side}"/>')
        parts.append(f'<text class="tick mid" x="{x(t):.1f}" y="{top + side + 16}">{t:g}</text>')
        parts.append(f'<text class="tick end" x="{left - 6}" y="{y(t) + 4:.1f}">{t:g}</text>')
    parts.append(f'<path class="equal" d="M{x(low):.1f} {y(low):.1f}L{x(high):.1f} {y(high):.1f}"/>')
    for kind, shape in SHAPES.items():
        drawn = "".join(
            shape.format(x=f"{x(p.beta_base):.1f}", y=f"{y(p.beta_tuned):.1f}")
            for p in points
            if p.verdict == kind
        )
        if drawn:
            parts.append(f'<path class="{kind} mark" d="{drawn}"/>')
    parts.append(
        f'<text class="title mid" x="{left + side / 2}" y="{top + side + 35}">beta, base model</text>'
    )
    parts.append(
        f'<text class="title mid" transform="translate(9 {top + side / 2}) rotate(-90)">'
        "beta, tuned model</text>"
    )
    return _svg(396, 385, "Scatter of beta in the base model against beta in the tuned model", parts)


def effect_bars(effects: Sequence[Effect], measured: str) -> Markup:
    """Predicted effects (left) beside measured changes (right), a row per category, with their intervals.

    measured: the right side's heading.
    The largest MOST_ROWS by prediction or by measurement, whichever ranks a category higher.
    """
    shown = largest(effects)
    if not shown:
        return Markup("")
    name_wide, wide, gap, row, top = 230, 310, 30, 21, 34
    high = row * len(shown)
    panels = (
        ("predicted effect", name_wide, [(e.effect, e.ci_low, e.ci_high) for e in shown]),
        (
            measured,
            name_wide + wide + gap,
            [(e.measured_change, e.measured_low, e.measured_high) for e in shown],
        ),
    )
    parts = []
    for index, effect in enumerate(shown):
        name = escape(visible(effect.name, 30))
        y = top + row * (index + 0.5) + 4
        parts.append(f'<text class="tick end name" x="{name_wide - 10}" y="{y}">{name}</text>')
    for title, left, triples in panels:
        parts.append(f'<text class="title start" x="{left}" y="14">{title}</text>')
        known = [v for triple in triples for v in triple if v is not None]
        if not known:
            parts.append(f'<text class="tick start" x="{left}" y="{top + 14}">not measured</text>')
            continue
        low, most = min(0.0, *known), max(0.0, *known)
        span = (most - low) or 1.0

        def x(v: float, left: float = left, low: float = low, span: float = span) -> float:
            return left + wide * (v - low) / span

        for t in _ticks(low, low + span, 4):
            parts.append(f'<path class="grid" d="M{x(t):.1f} {top}v{high}"/>')
            parts.append(f'<text class="tick mid" x="{x(t):.1f}" y="{top + high + 15}">{t:g}</text>')
        parts.append(f'<path class="axis" d="M{x(0):.1f} {top}v{high}"/>')
        for index, ((value, lower, upper), effect) in enumerate(zip(triples, shown, strict=True)):
            at = top + row * (index + 0.5)
            if value is None:
                parts.append(f'<text class="tick start" x="{x(0) + 4:.1f}" y="{at + 4:.1f}">{ABSENT}</text>')
                continue
            start, end = sorted((x(0), x(value)))
            told = escape(visible(effect.name)) + ": " + interval(value, lower, upper)
            parts.append(
                f'<rect class="{_class(effect, title)}" x="{start:.1f}" y="{at - 5:.1f}"'
                f' width="{end - start:.1f}" height="10"><title>{told}</title></rect>'
            )
            if lower is not None and upper is not None:
                parts.append(
                    f'<path class="whisker" d="M{x(lower):.1f} {at:.1f}H{x(upper):.1f}m0-3v6'
                    f'M{x(lower):.1f} {at - 3:.1f}v6"/>'
                )
    return _svg(
        name_wide + 2 * wide + gap + 16, top + high + 24, "Predicted effects beside measured changes", parts
    )


def largest(effects: Sequence[Effect], most: int = MOST_ROWS) -> list[Effect]:
    """The categories worth a row: large in prediction or in measurement. In the order given."""
    by_prediction = sorted(effects, key=lambda e: -(e.effect or 0))
    by_outcome = sorted(effects, key=lambda e: -abs(e.measured_change or 0))
    places: dict[str, int] = {}
    for order in (by_prediction, by_outcome):
        for place, effect in enumerate(order):
            places[effect.category] = min(place, places.get(effect.category, place))
    kept = set(sorted(places, key=lambda c: places[c])[:most])
    return [e for e in effects if e.category in kept]


_CLASSES = {
    "degraded": "degraded",
    "worse": "degraded",
    "improved": "improved",
    "better": "improved",
    "changed inside": "inside",
    "not known": "uncertain",
    "open": "uncertain",
}
"""Verdict or outcome -> the class of its bar in report.css."""


def _class(effect: Effect, title: str) -> str:
    if title.startswith("predicted"):
        return _CLASSES.get(effect.verdict, "unaffected")
    return _CLASSES.get(effect.measured, "unaffected")


def _svg(wide: float, high: float, title: str, parts: Sequence[str]) -> Markup:
    # Every text in `parts` is a number, our own words, or was escaped.
    return Markup(
        f'<svg viewBox="0 0 {wide:g} {high:g}" width="{wide:g}" role="img" aria-label="{title}">'
        + "".join(parts)
        + "</svg>"
    )


def _quantile(values: Sequence[float], q: float) -> float:
    """Of sorted values, by nearest rank."""
    return values[min(len(values) - 1, int(q * len(values)))]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from low to high, about that many."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    return [
        round(i * step, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
