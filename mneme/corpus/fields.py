"""What of a row is its text: a field, a path to one, or a conversation in one of the usual layouts.

{"text": ...}                                                   or content
{"messages": [{"role": ..., "content": ...}, ...]}              content: text, or a list of parts with text
{"conversations": [{"from": "human", "value": ...}, ...]}
{"prompt": ..., "completion": ...}                              texts, or lists of messages; or response, answer
{"instruction": ..., "input": ..., "output": ...}               Alpaca's
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mneme._util.errors import CorpusError
from mneme._util.settings import one_line, suggest
from mneme.corpus.corpus import Document

TEXT_FIELDS = ("text", "content")
_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue")
_ASKED = ("prompt", "question", "instruction")
_BESIDE = ("input", "context")
_ANSWERED = ("completion", "response", "output", "answer")
KNOWN_FIELDS = (*TEXT_FIELDS, *_CHATS, *_ASKED, *_BESIDE, *_ANSWERED, "topic")
"""All top-level fields that are looked at where none is named."""
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant", "model": "assistant"}

Turn = dict[str, str]
"""role and content."""
Render = Callable[[Sequence[Turn]], str]


def document_of(row: Mapping[str, Any], where: str, field: str | None, render: Render) -> Document:
    """A row's text and topic; a text that is null is empty, and dropped later.

    field: where the text is, `a.b.c` inside of objects; None: the first of the layouts above.
    Raises CorpusError, naming the fields that there are, where it isn't there or is no text.
    """
    topic = row.get("topic")
    named = None if topic in (None, "") else str(topic)
    found = _at(row, field, where) if field else row
    text = _text(found, render, whole=not field)
    if text is None:
        has = one_line(", ".join(map(str, row)))
        problem = f"{field} of {where} holds no text" if field else f"{where} has no text"
        raise CorpusError(f"{problem}: it has {has}; name the field with --text-field, as NAME or A.B")
    return Document(text, named)


def turns_of(row: Mapping[str, Any]) -> list[Turn] | None:
    """The turns of a row that holds a conversation, in one of the usual layouts; None where it holds none."""
    for name in _CHATS:
        if (turns := _messages(row.get(name))) is not None:
            return turns
    asked = next((row[name] for name in _ASKED if row.get(name)), None)
    answered = next((row[name] for name in _ANSWERED if row.get(name) is not None), None)
    if asked is None or answered is None:
        return None
    before = _turns(asked, "user")
    after = _turns(answered, "assistant")
    if before is None or after is None:
        return None
    beside = next(
        (row[name] for name in _BESIDE if isinstance(row.get(name), str) and row[name].strip()), None
    )
    if beside is not None:
        before[-1] = {**before[-1], "content": f"{before[-1]['content']}\n\n{beside}"}
    return [*before, *after]


def _at(row: Mapping[str, Any], field: str, where: str) -> Any:
    """The value that `a.b.c` names; a key that has the dots in it goes first."""
    value: Any = row
    left = field
    while left:
        if not isinstance(value, Mapping):
            raise CorpusError(f"{where} has no {field}: what is before .{left} is no object")
        key = next(
            (k for k in sorted(value, key=len, reverse=True) if left == k or left.startswith(f"{k}.")), None
        )
        if key is None:
            raise CorpusError(f"{where} has no field {field!r}: {suggest(left, map(str, value))}")
        value, left = value[key], left[len(key) + 1 :]
    return value


def _text(value: Any, render: Render, *, whole: bool = False) -> str | None:
    """What a field (or a whole row) says; None where that is no text."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Mapping):
        return _of_object(value, render)
    if isinstance(value, Sequence) and not whole:
        turns = _messages(value)
        return render(turns) if turns is not None else _parts(value)
    return None


def _of_object(row: Mapping[str, Any], render: Render) -> str | None:
    found = [row[name] for name in TEXT_FIELDS if name in row]
    for value in found:
        text = value if isinstance(value, str) else _parts(value)
        if text is not None:
            return text
    turns = turns_of(row)
    if turns is not None:
        return render(turns)
    return "" if found and all(value is None for value in found) else None


def _messages(value: Any) -> list[Turn] | None:
    """A list of messages, whoever wrote it down; None where it is none. Turns without text are left out."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return None
    turns = []
    for message in value:
        if not isinstance(message, Mapping):
            return None
        role = message.get("role", message.get("from"))
        content = message.get("content", message.get("value"))
        if not isinstance(role, str):
            return None
        text = content if isinstance(content, str) else _parts(content)
        if text is None and content is not None:
            return None
        if text:  # an answer may be calls of tools only
            turns.append({"role": _ROLES.get(role.casefold(), role.casefold()), "content": text})
    return turns


def _turns(value: Any, role: str) -> list[Turn] | None:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return _messages(value) or None


def _parts(value: Any) -> str | None:
    """A list of texts, or of parts {"type": "text", "text": ...}, as one text; None where it is no such list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    texts = []
    for part in value:
        text = part.get("text", "") if isinstance(part, Mapping) else part
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "\n".join(text for text in texts if text)
