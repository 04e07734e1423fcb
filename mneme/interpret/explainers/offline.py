"""A label for every live latent, without a server: what stands out in its training contexts, in a few words.

Which kind of label depends on where the evidence is concentrated:

    united states, supreme court            it fires on few phrases
    virus, infection, viral                 it fires on few words
    says: protein, cell                     what it promotes is what then follows
    before: of, the                         the next word is more predictable than its own
    punctuation , ; in text on trade, law   it fires on form
    text on cell, protein, enzyme           the words around it have a subject, those it fires on don't
    first tokens of a text                  it is bound to a position

The evidence behind each is kept as JSON beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme.interpret.explainers.enrichment import Enriched, Evidence

MAX_WORDS = 12
_CONCENTRATED = 0.5  # share of the firing that the named words hold
_SUBJECT_Z = 2.5
_MIN_SHARE = 0.04
_MIN_PHRASE = 0.15  # of the firing, for a phrase to be named
_MIN_SAID = 0.15  # of the firing, for what follows and is promoted to be named
_MIN_SUBJECT_SHARE = 0.15  # of the contexts, for a word to be called their subject
_FORM_NAMES = {",": "commas", ".": "full stops", "": "line breaks", ":": "colons", "-": "hyphens"}


def offline_labels(
    evidence: Mapping[int, Evidence],
    says: Mapping[int, Sequence[str]],
    flags: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rows of the run's `labels` table (method 'offline'), without scores.

    `says`: per latent, the tokens its stronger decoder promotes most. `flags`: the `latents` table's columns
    latent, dense, position_bound, firing_rate, where there are such.
    """
    bound, dense = _flagged(flags, "position_bound"), _flagged(flags, "dense")
    rows = []
    for latent, found in sorted(evidence.items()):
        promoted = [text.strip() for text in says.get(latent, ()) if text.strip()]
        kind, label = _label(found, promoted, position_bound=latent in bound)
        detail = {
            "kind": kind,
            "fires_on": [_short(e) for e in found.firing[:6]],
            "phrases": [_short(e) for e in found.phrases[:4]],
            "next": [_short(e) for e in found.following[:6]],
            "around": [_short(e) for e in found.window[:8]],
            "says": promoted[:6],
            "train_contexts": found.n_contexts,
            "dense": latent in dense,
        }
        rows.append((latent, label, "offline", json.dumps(detail, ensure_ascii=False)))
    frame = pd.DataFrame(rows, columns=["latent", "label", "method", "detail"])
    return frame.astype({"latent": np.int32})


class _Marks(NamedTuple):
    """What of a latent's evidence is strong enough to be said."""

    position_bound: bool
    words: list[Enriched]
    form: list[Enriched]
    """Fired on, but no words."""
    phrases: list[Enriched]
    follows: list[Enriched]
    said: list[Enriched]
    """Of what follows, what the decoder promotes too."""
    subject: list[str]
    promoted: Sequence[str]

    @property
    def on(self) -> str:
        """The subject, to be put behind a label."""
        return f" in text on {', '.join(self.subject[:4])}" if self.subject else ""


def _label(found: Evidence, promoted: Sequence[str], *, position_bound: bool) -> tuple[str, str]:
    """(kind, label): by the first rule that applies."""
    # Parts of characters tell a reader nothing.
    firing = [e for e in found.firing if e.share >= _MIN_SHARE and "<0x" not in e.word][:4]
    words = [e for e in firing if any(c.isalpha() for c in e.word)]
    follows = [e for e in found.following if e.share >= _MIN_SHARE][:3]
    marks = _Marks(
        position_bound,
        words,
        [e for e in firing if not any(c.isalpha() for c in e.word)],
        [e for e in found.phrases if e.share >= _MIN_PHRASE and "<0x" not in e.word][:3],
        follows,
        [e for e in follows if any(e.word.startswith(p.lower()) for p in promoted if len(p) > 1)],
        _subject(found.window, {e.word for e in words}),
        promoted,
    )
    for kind, applies, text in _RULES:
        if applies(marks):
            return kind, _fit(text(marks))
    return "none", "nothing stands out"


def _share(entries: Sequence[Enriched]) -> float:
    return sum(e.share for e in entries)


def _list(entries: Sequence[Enriched]) -> str:
    return ", ".join(e.word or "line break" for e in entries)


_RULES: tuple[tuple[str, Callable[[_Marks], bool], Callable[[_Marks], str]], ...] = (
    (
        "position",
        lambda m: m.position_bound,
        lambda m: f"first tokens of a text{m.on.removeprefix(' in text')}",
    ),
    (
        "form",
        lambda m: _share(m.form) >= _CONCENTRATED,
        lambda m: _name_form([e.word for e in m.form]) + m.on,
    ),
    (
        "phrases",
        lambda m: _share(m.phrases) >= _CONCENTRATED,
        lambda m: ", ".join(e.word for e in m.phrases) + m.on,
    ),
    ("words", lambda m: _share(m.words) >= _CONCENTRATED, lambda m: _list(m.words) + m.on),
    ("says", lambda m: _share(m.said) >= _MIN_SAID, lambda m: f"says: {_list(m.said)}{m.on}"),
    ("before", lambda m: _share(m.follows) >= _CONCENTRATED, lambda m: f"before: {_list(m.follows)}{m.on}"),
    (
        "subject",
        lambda m: bool(m.subject),
        lambda m: f"text on {', '.join([*(e.word for e in m.words[:2]), *m.subject][:6])}",
    ),
    ("mixed", lambda m: bool(m.words or m.form), lambda m: "often on: " + _list([*m.words, *m.form])),
    ("promotes", lambda m: bool(m.promoted), lambda m: "promotes: " + ", ".join(m.promoted[:4])),
)
"""(kind, when it applies, its label), the most telling first."""


def _subject(window: Sequence[Enriched], but: set[str]) -> list[str]:
    """Words that mark what the contexts are about; one of a plural and its singular."""
    out: list[str] = []
    for e in window:
        if e.z < _SUBJECT_Z or e.share < _MIN_SUBJECT_SHARE:
            continue
        if not any(_same_stem(e.word, other) for other in [*out, *but]):
            out.append(e.word)
    return out


def _same_stem(one: str, other: str) -> bool:
    return one.rstrip("s") == other.rstrip("s")


def _name_form(marks: Sequence[str]) -> str:
    """Commas, numbers, ... : what isn't words."""
    if all(m.isdigit() for m in marks):
        return "numbers"
    named = [_FORM_NAMES.get(m) for m in marks]
    if len(marks) == 1 and named[0]:
        return named[0]
    return "punctuation " + " ".join(m if m else "line break" for m in marks[:3])


def _fit(text: str) -> str:
    """At most 12 words, no control characters."""
    words = "".join(c if c.isprintable() else " " for c in text).split()
    return " ".join(words[:MAX_WORDS]).rstrip(",")


def _short(e: Enriched) -> dict[str, object]:
    return {"word": e.word, "z": round(e.z, 1), "share": round(e.share, 3)}


def _flagged(flags: pd.DataFrame | None, name: str) -> set[int]:
    if flags is None or name not in flags:
        return set()
    return set(flags.latent[flags[name].fillna(False).astype(bool)].astype(int))
