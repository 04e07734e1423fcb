"""A folder of model replies: one JSON file per question, named by a hash of everything that determines the reply.

The name is a SHA-256 of the model and where it runs, temperature, longest reply, instructions and data: the same
question is paid for once, and a reply can be shown beside what was made of it. A file is whole or not there, and
has a SHA-256 of what it says: a damaged one is never taken for a reply. While
a question is on its way, a mark lies beside it: found later, it says that a reply may have been paid for in vain.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mneme._util.files import write_text

if TYPE_CHECKING:
    from mneme.interpret.clients.base import Reply

_log = logging.getLogger(__name__)


class Prompt(NamedTuple):
    """All that one request says."""

    system: str
    user: str

    def key(self, identity: str) -> str:
        """The kept reply's name; `identity` is the model's (`Chat.identity`)."""
        return hashlib.sha256("\0".join((identity, self.system, self.user)).encode()).hexdigest()


class CachedResponse(NamedTuple):
    """One paid reply."""

    method: str
    system: str
    user: str
    reply: str
    refused: bool
    prompt_tokens: int
    reply_tokens: int
    seconds: float
    attempts: int
    """Replies paid for so far: a bad one is asked for once more."""


class ResponseCache:
    """A folder of kept replies."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, key: str) -> CachedResponse | None:
        """The response of this name; None where there is none. A damaged one, which was paid for, is put aside."""
        file = self.folder / f"{key}.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            response = CachedResponse(**{name: record[name] for name in CachedResponse._fields})
            if record.get("sha256", _digest(response)) == _digest(response) and _fits(response):
                return response._replace(  # a count that a server sent was once taken as it was
                    prompt_tokens=max(response.prompt_tokens, 0), reply_tokens=max(response.reply_tokens, 0)
                )
        except IsADirectoryError:
            pass
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        aside = file.with_suffix(".json.damaged")
        with contextlib.suppress(OSError):  # another thread was here first
            os.replace(file, aside)
            _log.warning("a kept reply is damaged: it is put aside as %s, and asked for again", aside)
        return None

    def keep(self, key: str, response: CachedResponse) -> None:
        """Write it, then take the mark away."""
        write_text(self.folder / f"{key}.json", _text(response))
        self.unmark(key)

    def mark(self, key: str, tokens: int) -> None:
        """A question of about so many tokens is on its way."""
        write_text(self.folder / f"{key}.asked", json.dumps(tokens))

    def marked(self, key: str) -> int | None:
        """Tokens of a question that was on its way when its process ended."""
        try:
            found: Any = json.loads((self.folder / f"{key}.asked").read_text(encoding="utf-8"))
            return max(int(found), 0)
        except (OSError, ValueError, TypeError, OverflowError, RecursionError):
            return None

    def unmark(self, key: str) -> None:
        """The question was answered, or is known not to have been."""
        (self.folder / f"{key}.asked").unlink(missing_ok=True)


def _digest(response: CachedResponse) -> str:
    return hashlib.sha256(
        json.dumps(response, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def _fits(response: CachedResponse) -> bool:
    """Whether every field is of its kind."""
    texts = response.method, response.system, response.user, response.reply
    whole = response.prompt_tokens, response.reply_tokens, response.attempts
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(response.refused, bool)
        and all(isinstance(n, int) and not isinstance(n, bool) for n in whole)
        and isinstance(response.seconds, int | float)
    )


def _text(response: CachedResponse) -> str:
    return json.dumps({**response._asdict(), "sha256": _digest(response)}, ensure_ascii=False)


def cached_response(
    method: str, prompt: Prompt, reply: Reply, seconds: float, attempts: int
) -> CachedResponse:
    """A reply as it is kept."""
    return CachedResponse(
        method,
        prompt.system,
        prompt.user,
        reply.text,
        reply.refused,
        reply.prompt_tokens,
        reply.reply_tokens,
        round(seconds, 3),
        attempts,
    )
