"""What a labelling model is shown of a latent, and what is accepted as its answer.

The instructions lie in prompts/explain.txt. Contexts go in as JSON strings, so that no text can end its
quotes, from training documents only. Replies are as hostile as the text they were made from: they are checked
and cut to one printable line; what does not pass is a failure, never a label.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.errors import LabelError
from mneme.interpret.clients.reply_json import last_passing
from mneme.interpret.clients.response_cache import Prompt

MAX_WORDS = 12
ROLES = ("detects", "says", "format", "mixed")
_WINDOW = 32  # tokens of each example
_STRONG = 0.3  # of the example's largest activation, to be marked
_OPEN, _CLOSE = "⟦", "⟧"


class Explanation(NamedTuple):
    """A reply that passed the checks."""

    label: str
    sentence: str
    role: str
    confidence: float | None
    """From 0 to 1, as the model says; None where it says nothing that can be read."""


def instructions() -> str:
    """The text of prompts/explain.txt."""
    return files("mneme.interpret").joinpath("prompts", "explain.txt").read_text(encoding="utf-8")


def prompts_fingerprint() -> dict[str, str]:
    """SHA-256 of each prompt file."""
    folder = files("mneme.interpret").joinpath("prompts")
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".txt")
    }


def make_prompts(
    latents: Sequence[int], contexts: pd.DataFrame, lens: pd.DataFrame, *, examples: int = 40
) -> dict[int, Prompt]:
    """The question about each latent, in this order; one without training contexts has none.

    `contexts`: columns latent, quantile, split, position, start, tokens, activations, in the order of the run's
    contexts. `lens`: latent, model, token. Half of the `examples` are top contexts, the others are spread over the
    tenths of activation.
    """
    system = instructions()
    promotes: dict[int, dict[str, list[str]]] = {}
    for latent, model, token in zip(lens.latent.tolist(), lens.model, lens.token, strict=True):
        if model != "difference":
            promotes.setdefault(latent, {}).setdefault(model, []).append(token)
    shown = _shown(contexts[contexts.split == "train"], examples)
    texts: dict[int, list[str]] = {}
    for latent, at, tokens, values in zip(
        shown.latent.tolist(),
        (shown.position - shown.start).tolist(),
        shown.tokens,
        shown.activations,
        strict=True,
    ):
        texts.setdefault(latent, []).append(_marked(list(tokens), np.asarray(values), at))
    return {
        j: Prompt(
            system,
            json.dumps({"examples": texts[j], "promotes": promotes.get(j, {})}, ensure_ascii=False),
        )
        for j in map(int, latents)
        if j in texts
    }


def read_explanation(reply: str) -> Explanation:
    """The label of a reply. Raises LabelError that says what is wrong with it."""
    return last_passing(reply, _explanation)


def _explanation(found: dict[str, Any]) -> Explanation:
    """Check an object. Raises LabelError."""
    if not isinstance(found.get("label"), str):
        raise LabelError("the reply has no label")
    label = _plain(found["label"])
    if not any(c.isalnum() for c in label):
        raise LabelError("the reply's label is empty")
    if label.lower() in _said_in_the_instructions():
        raise LabelError("the reply repeats the instructions")
    if len(label.split()) > MAX_WORDS or len(label) > 120:
        raise LabelError(f"the reply's label is longer than {MAX_WORDS} words")
    sentence = _plain(found["sentence"]) if isinstance(found.get("sentence"), str) else ""
    if not sentence:
        raise LabelError("the reply has no sentence")
    role = _role(found.get("role"))
    if role is None:
        raise LabelError("the reply does not say what the latent does")
    return Explanation(label, sentence[:400], role, _share(found.get("confidence")))


def _shown(train: pd.DataFrame, examples: int) -> pd.DataFrame:
    """The contexts that are shown."""
    top = (examples + 1) // 2
    most = np.where(train["quantile"] == 0, top, max(1, (examples - top) // 10))
    train = train[train.groupby(["latent", "quantile"]).cumcount() < most]
    return train[train.groupby("latent").cumcount() < examples]


def _said_in_the_instructions() -> tuple[str, ...]:
    """What a model that copies instead of answering would give as a label."""
    return ("a name for the feature, at most 12 words", "at most 12 words", "a name for the feature", "label")


def _role(given: object) -> str | None:
    word = given.strip().lower().split(" ")[0] if isinstance(given, str) else ""
    return word if word in ROLES else None


def _share(given: object) -> float | None:
    """0.85 of 0.85, "0.85", "85%" and 85; None of anything else, which takes nothing from the label."""
    text = given.strip() if isinstance(given, str) else given
    per_cent = isinstance(text, str) and text.endswith("%")
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    try:
        value = float(text.removesuffix("%")) if isinstance(text, str) else float(text)
    except (ValueError, OverflowError):
        return None
    if per_cent or 10 < value <= 100:  # 7 may be of 10 or of 100
        value /= 100
    return value if 0 <= value <= 1 else None


def _marked(tokens: list[str], values: np.ndarray, at: int) -> str:
    """One example of at most 32 tokens around its strongest, its strong tokens marked."""
    start = min(max(0, at - _WINDOW * 2 // 3), max(0, len(tokens) - _WINDOW))
    part = slice(start, start + _WINDOW)
    values = values[part]
    strong = values >= max(_STRONG * float(values.max(initial=0)), 1e-12)
    out = []
    for piece, mark in zip(tokens[part], strong.tolist(), strict=True):
        piece = piece.replace(_OPEN, "[").replace(_CLOSE, "]")
        out.append(f"{_OPEN}{piece}{_CLOSE}" if mark else piece)
    return "".join(out).replace(_CLOSE + _OPEN, "")


def _plain(text: str) -> str:
    """One line of printable characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
