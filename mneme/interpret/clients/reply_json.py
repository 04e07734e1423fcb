"""The JSON that a model's reply holds, whatever stands around it, found in time linear in the reply's length.

Models think aloud, draft, and put what they say into code fences. What stands before the last end of a thought is no
answer; of the rest the last object (or array) that passes the caller's checks is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from mneme._util.errors import LabelError

T = TypeVar("T")
Kind = Literal["object", "array"]

_BRACKETS: dict[Kind, tuple[str, str]] = {"object": ("{", "}"), "array": ("[", "]")}
_MARKS: dict[Kind, re.Pattern[str]] = {
    "object": re.compile(r'["\\\n{}]'),
    "array": re.compile(r'["\\\n\[\]]'),
}
_NONE: dict[Kind, str] = {"object": "the reply is not JSON", "array": "the reply is no JSON array"}
_THOUGHT = "think|thinking|thought|reasoning"
_THINKS = re.compile(rf"\s*(?:<(?:{_THOUGHT})>|\[THINK\])", re.IGNORECASE)
_HAS_THOUGHT = re.compile(rf"</(?:{_THOUGHT})>|\[/THINK\]|<\|channel\|>final<\|message\|>", re.IGNORECASE)
_READ_OVER = 10  # times its length that a reply is parsed at most: brackets within brackets that are no JSON


def last_passing(reply: str, check: Callable[[Any], T], kind: Kind = "object") -> T:
    """What `check` makes of the last JSON object or array of a reply that passes it.

    `check` raises LabelError for one that does not. Raises LabelError: that of the last one, where none passes.
    """
    if not reply.strip():
        raise LabelError("empty reply")
    end = _thought_end(reply)
    if end is None:
        raise LabelError("the reply ends before the model's reasoning does")
    said: LabelError | None = None
    # Then across the end of the thought: an object may speak of such marks in a string.
    for text, least in ((reply[end:], 0), (reply, end))[: 2 if end else 1]:
        for found in _values(text, kind, least):
            try:
                return check(found)
            except LabelError as error:
                said = said or error
        if said is not None:
            break
    raise said or LabelError(_NONE[kind] if reply[end:].strip() else "empty reply")


def _thought_end(reply: str) -> int | None:
    """Where the last thought ends; None where it never does."""
    end = 0
    for found in _HAS_THOUGHT.finditer(reply):
        end = found.end()
    return None if not end and _THINKS.match(reply) else end


def _values(text: str, kind: Kind, least: int) -> Iterator[Any]:
    """The values of this kind that end after `least`, the last first; none that lies in another."""
    left = _READ_OVER * len(text)
    within = len(text)
    for begin, end in reversed(_balanced(text, kind)):
        if end <= least or left < end - begin:
            return
        if begin > within:
            continue
        left -= end - begin
        try:
            found = json.loads(text[begin:end])
        except (ValueError, RecursionError):
            continue
        within = begin
        yield found


def _balanced(text: str, kind: Kind) -> list[tuple[int, int]]:
    """Where brackets of this kind open and close again, in the order of their ends.

    Brackets in strings do not count. A string begins within a bracket and, in JSON, ends on its line.
    """
    opening, closing = _BRACKETS[kind]
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    quoted, escaped = False, -1
    for mark in _MARKS[kind].finditer(text):
        at, character = mark.start(), mark.group()
        if at == escaped:
            continue
        if character == "\n":
            quoted = False
        elif quoted:
            if character == "\\":
                escaped = at + 1
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = bool(opened)
        elif character == opening:
            opened.append(at)
        elif character == closing and opened:
            found.append((opened.pop(), at + 1))
    return found
