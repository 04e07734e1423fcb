"""Contexts as HTML: tokens coloured by a value, every one escaped, values in the tooltips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.components import words

COLOURINGS = {
    "activation": "Activation",
    "nll_change": "NLL change",
    "kl": "KL",
}
_TOKEN_LIMIT = 40
_SEQUENTIAL = (213, 94, 0)  # vermilion, as `amplified`
_WORSE, _BETTER = (194, 65, 124), (31, 158, 137)  # as degraded and improved
_STYLE = (
    "<style>.mneme-ctx{line-height:1.75;white-space:pre-wrap;overflow-wrap:anywhere;font-size:0.93rem;"
    "unicode-bidi:isolate;margin:0 0 0.15rem 0}"
    ".mneme-ctx span{border-radius:3px;padding:1px 0;unicode-bidi:isolate}"
    ".mneme-ctx .mneme-peak{font-weight:650;text-decoration:underline;text-decoration-thickness:1px;"
    "text-underline-offset:3px}"
    ".mneme-meta{font-size:0.78rem;opacity:0.65;margin-top:0.7rem}</style>"
)


def contexts_html(contexts: Sequence[Mapping[str, Any]], colouring: str = "activation") -> str:
    """Contexts (rows of the table, with `topic`) as one piece of HTML.

    The colour's scale is shared by all of them, so that contexts can be compared.
    """
    column = {"activation": "activations"}.get(colouring, colouring)
    top = max((abs(v) for c in contexts for v in c.get(column) or [] if not words.missing(v)), default=0.0)
    parts = [_STYLE]
    for context in contexts:
        parts.append(f'<div class="mneme-meta">{_meta(context, column)}</div>')
        parts.append(f'<div class="mneme-ctx">{_tokens(context, column, top)}</div>')
    return "".join(parts)


def _meta(context: Mapping[str, Any], column: str) -> str:
    best = max((a for a in context["activations"] or [0.0] if not words.missing(a)), default=0.0)
    topic = words.html(context.get("topic"), 48)
    facts = [
        f"strongest {words.number(best)}",
        f"document {context['document']}, token {context['position']}",
    ]
    if topic:
        facts.append(topic)
    facts.append("seen by the labeller" if context.get("split") == "train" else "held out")
    if column != "activations":
        n = sum(not words.missing(value) for value in context.get(column) or [])
        facts.append(
            f"measured on {n} of {len(context['tokens'] or [])} tokens" if n else "not measured here"
        )
    return " · ".join(facts)


def _tokens(context: Mapping[str, Any], column: str, top: float) -> str:
    tokens = context["tokens"] or []
    values = context.get(column) or []
    peak = (context.get("position") or 0) - (context.get("start") or 0)
    return "".join(
        _token(i, token, context, _at(values, i), top, column == "nll_change", i == peak)
        for i, token in enumerate(tokens)
    )


def strip_html(
    tokens: Sequence[str],
    values: Sequence[float | None],
    titles: Sequence[str],
    top: float,
    *,
    signed: bool = False,
) -> str:
    """One text as HTML: tokens coloured by `values` on a scale that ends at `top`, `titles` as tooltips."""
    spans = "".join(map(_span, tokens, values, [top] * len(tokens), [signed] * len(tokens), titles))
    return f'{_STYLE}<div class="mneme-ctx">{spans}</div>'


def _token(
    i: int,
    token: object,
    context: Mapping[str, Any],
    value: float | None,
    top: float,
    signed: bool,
    peak: bool,
) -> str:
    notes = [
        f"{name} {words.number(found, signed=signed)}"
        for name, key, signed in (
            ("activation", "activations", False),
            ("KL", "kl", False),
            ("NLL change", "nll_change", True),
        )
        if (found := _at(context.get(key) or [], i)) is not None
    ]
    return _span(token, value, top, signed, " · ".join(notes), peak)


def _span(
    token: object, value: float | None, top: float, signed: bool, title: str, peak: bool = False
) -> str:
    style = ""
    if value is not None and top > 0 and abs(value) > 0.02 * top and (signed or value > 0):
        red, green, blue = (_WORSE if value > 0 else _BETTER) if signed else _SEQUENTIAL
        style = (
            f' style="background:rgba({red},{green},{blue},{0.08 + 0.62 * min(1.0, abs(value) / top):.2f})"'
        )
    mark = ' class="mneme-peak"' if peak else ""
    return f'<span{mark}{style} title="{words.html(title, 300)}">{words.html(token, _TOKEN_LIMIT)}</span>'


def _at(values: Sequence[Any], i: int) -> float | None:
    return None if i >= len(values) or words.missing(values[i]) else float(values[i])
