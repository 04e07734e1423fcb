"""From the history of changes to what holds now: the last change of a field that nobody undid."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

VERDICTS = ("accept", "reject", "needs-work")
_SIGNS = {"accept": "✓", "reject": "✗", "needs-work": "…"}
FIELDS = ("verdict", "note", "tags", "bookmark", "label")
UNDO = "undo"
"""The field of a change that takes back the action named by its value."""


@dataclass(frozen=True)
class Change:
    """A row of the history. Changes made together share an action and are undone together."""

    action: int
    at: str
    """UTC, ISO 8601"""
    author: str
    latent: int | None
    """None: about the whole run"""
    field: str
    """one of FIELDS, or UNDO"""
    value: str | None
    """None: cleared"""


@dataclass(frozen=True)
class Review:
    """What is said of one latent now."""

    latent: int | None
    verdict: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    bookmark: bool = False
    label: str = ""
    """The analyst's own; '' where the automatic one holds."""
    author: str = ""
    at: str = ""

    @property
    def empty(self) -> bool:
        """Everything has been cleared or undone."""
        return not (self.verdict or self.note or self.tags or self.bookmark or self.label)


def fold(changes: Iterable[Change]) -> dict[int | None, Review]:
    """Latent -> its review, from changes in the order they were made; latents with nothing said are left out."""
    changes = list(changes)
    undone = {change.value for change in changes if change.field == UNDO}
    found: dict[int | None, dict[str, Any]] = {}
    for change in changes:
        if change.field in FIELDS and str(change.action) not in undone:
            kept = found.setdefault(change.latent, {})
            kept[change.field] = decode(change.field, change.value)
            kept.update(author=change.author, at=change.at)
    reviews = {latent: Review(latent, **kept) for latent, kept in found.items()}
    return {latent: review for latent, review in reviews.items() if not review.empty}


def review_status(verdict: str, bookmark: bool) -> str:
    """A review in a word, the same on pages and in the report: ✓ accept ★."""
    return " ".join(part for part in (_SIGNS.get(verdict), verdict, "★" if bookmark else "") if part)


def last_action(changes: Iterable[Change], latent: int | None, author: str) -> int | None:
    """The author's last action on the latent that still holds: what undo takes back, and never another's."""
    changes = list(changes)
    undone = {change.value for change in changes if change.field == UNDO}
    own = (c.action for c in changes if c.latent == latent and c.author == author and c.field != UNDO)
    return max((action for action in own if str(action) not in undone), default=None)


def encode(field: str, value: Any) -> str | None:
    """A field's value as the history keeps it; None where it clears the field."""
    if field == "verdict" and value and value not in VERDICTS:
        raise ValueError(f"a review verdict is one of {', '.join(VERDICTS)}, not {value!r}")
    if field == "tags":
        tags = sorted({str(tag).strip() for tag in value} - {""})
        return json.dumps(tags) if tags else None
    if field == "bookmark":
        return "true" if value else None
    if field in FIELDS:
        return str(value).strip() or None
    raise ValueError(f"a review has no {field}: it has {', '.join(FIELDS)}")


def decode(field: str, value: str | None) -> Any:
    """The opposite of `encode`."""
    if field == "tags":
        return tuple(json.loads(value)) if value else ()
    return value == "true" if field == "bookmark" else value or ""
