"""The body of a chat completion -> `Reply`. Servers differ: all that is not needed may be missing or wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mneme.interpret.clients.base import CHARACTERS, Reply, ReplyError

_MOST = 10**9  # tokens: a server that counts more counts wrongly


def read_completion(body: bytes, asked: str, longest: int) -> Reply:
    """What a server's answer says. `asked`: the prompt's text, counted where the server counts nothing; `longest`:
    the most tokens of a reply.

    Raises ReplyError for an answer that holds no reply, and for an error that was sent with status 200.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise unreadable() from error
    if not isinstance(found, Mapping):
        raise unreadable()
    choices = found.get("choices")
    if not choices and found.get("error"):
        raise InsideError(found["error"])
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise unreadable()
    message = choices[0].get("message")
    if not isinstance(message, Mapping):
        raise unreadable()
    text = well_formed(_text(message.get("content")))
    given = found.get("usage")
    usage: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    cut = choices[0].get("finish_reason") == "length"
    return Reply(
        text,
        _count(usage.get("prompt_tokens"), len(asked) // CHARACTERS),
        _count(usage.get("completion_tokens"), longest if cut else len(text) // CHARACTERS),
        bool(message.get("refusal")),
    )


class InsideError(Exception):
    """An error where a reply should be; `error`: what the server said of it."""

    def __init__(self, error: object) -> None:
        super().__init__("an error with status 200")
        self.error = error


def unreadable() -> ReplyError:
    """For an answer that is no chat completion; it may be paid."""
    return ReplyError("the server's answer can't be read", maybe_paid=True)


def well_formed(text: str) -> str:
    """The text with surrogates joined to characters; lone ones, which no file takes, become U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _text(content: object) -> str:
    """The text of a message; of a list of parts, the parts that are text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise unreadable()
    texts = [part if isinstance(part, str) else _part(part) for part in content]
    return "".join(texts)


def _part(part: object) -> str:
    if not isinstance(part, Mapping) or part.get("type", "text") not in ("text", "output_text"):
        return ""  # a thought, or a picture
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _count(given: object, otherwise: int) -> int:
    """A number of tokens; `otherwise` where what is given is none."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= _MOST:
        return otherwise
    return int(given)
