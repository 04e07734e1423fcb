"""What a labelling model is shown of a latent, and what is accepted as its answer.

The instructions lie in prompts/explain.txt. Contexts go in as JSON strings, so that no text can end its
quotes, from training documents only. Replies are as hostile as the text they were made from: they are checked
and cut to one printable line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from mneme.errors import LabelError
from mneme.interpret.contexts import Contexts
from mneme.interpret.labels.receipts import Prompt
from mneme.interpret.tokens import TokenTexts

MAX_WORDS = 12
ROLES = ("detects", "says", "format", "mixed")
_TOP, _PER_DECILE = 20, 2  # examples shown: 40 at most
_WINDOW = 32  # tokens of each
_STRONG = 0.3  # of the example's largest activation, to be marked
_OPEN, _CLOSE = "⟦", "⟧"


class Explanation(NamedTuple):
    """A reply that passed the checks."""

    label: str
    sentence: str
    role: str
    confidence: float | None


def instructions() -> str:
    """The text of prompts/explain.txt."""
    return files("mneme.interpret").joinpath("prompts", "explain.txt").read_text(encoding="utf-8")


def make_question(
    latent: int, contexts: Contexts, texts: TokenTexts, promotes: Mapping[str, Sequence[str]]
) -> Prompt | None:
    """The question about one latent, None when it has no training contexts.

    `promotes`: logit-lens tokens by model name.
    """
    first, last = np.searchsorted(contexts.latent, [latent, latent + 1])
    mine = contexts.take(np.arange(first, last))
    most = np.where(mine.quantile == 0, _TOP, _PER_DECILE)
    seen: dict[int, int] = {}
    examples = []
    for i in np.flatnonzero(~mine.test).tolist():
        quantile = int(mine.quantile[i])
        seen[quantile] = seen.get(quantile, 0) + 1
        if seen[quantile] <= most[i]:
            examples.append(_marked(mine, i, texts))
    if not examples:
        return None
    data = {"examples": examples, "promotes": {name: list(tokens) for name, tokens in promotes.items()}}
    return Prompt(instructions(), json.dumps(data, ensure_ascii=False))


def read_explanation(reply: str | None) -> Explanation:
    """Check a reply. Raises LabelError that says what is wrong with it."""
    text = (reply or "").strip()
    if not text:
        raise LabelError("empty reply")
    begin, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[begin : end + 1])
    except ValueError as error:
        raise LabelError("the reply is not JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("label"), str):
        raise LabelError("the reply has no label")
    label = _plain(found["label"])
    if not label:
        raise LabelError("the reply's label is empty")
    if len(label.split()) > MAX_WORDS or len(label) > 120:
        raise LabelError(f"the reply's label is longer than {MAX_WORDS} words")
    confidence = found.get("confidence")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        confidence = None
    role = found.get("role")
    return Explanation(
        label=label,
        sentence=_plain(str(found.get("sentence") or ""))[:400],
        role=role if role in ROLES else "mixed",
        confidence=confidence,
    )


def _marked(mine: Contexts, i: int, texts: TokenTexts) -> str:
    """One example, its strong tokens marked."""
    length = int(mine.length[i])
    at = int(mine.position[i] - mine.start[i])
    start = min(max(0, at - _WINDOW * 2 // 3), max(0, length - _WINDOW))
    part = slice(start, min(length, start + _WINDOW))
    values = mine.activations[i, part]
    strong = values >= max(_STRONG * float(values.max(initial=0)), 1e-12)
    out = []
    for piece, mark in zip(texts.texts(mine.tokens[i, part]), strong.tolist(), strict=True):
        piece = piece.replace(_OPEN, "[").replace(_CLOSE, "]")
        out.append(f"{_OPEN}{piece}{_CLOSE}" if mark else piece)
    return "".join(out).replace(_CLOSE + _OPEN, "")


def _plain(text: str) -> str:
    """One line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
