"""One small protocol behind every model that explains or scores: `reply(system, user) -> Reply`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from mneme._util.errors import LabelError

REPLY_TOKENS = 300
CHARACTERS = 3  # of a token of these prompts: marked words and JSON take more tokens than plain text
LOCAL = "local:"
Part = Literal["max_tokens", "temperature", "system"]
"""Of a request: what some servers refuse, and another form stands for."""


class Reply(NamedTuple):
    """What a model said."""

    text: str
    prompt_tokens: int
    reply_tokens: int
    refused: bool = False


class ReplyError(LabelError):
    """No reply came. Of the server's own words its text holds names only: others may repeat the key."""

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        wait: float | None = None,
        fatal: bool = False,
        maybe_paid: bool = False,
        systematic: bool = False,
        unreachable: bool = False,
        refused: Part | None = None,
    ) -> None:
        super().__init__(reason)
        self.again, self.wait = again, wait
        """Whether to ask again, and after how many seconds, where the server says so."""
        self.fatal = fatal
        """No other question will be answered either."""
        self.maybe_paid = maybe_paid
        """The server may have worked, and be paid, though nothing arrived."""
        self.systematic = systematic
        """Likely the same for every question: not asked for ever."""
        self.unreachable = unreachable
        """The question was never sent."""
        self.refused = refused
        """What of the request the server does not take."""


class Chat(Protocol):
    """A model that answers, one question at a time, always the same way (greedy)."""

    method: str
    """Its name in the tables: 'llm:MODEL' or 'local:MODEL'."""
    identity: str
    """All that a reply depends on besides the question: the model, where it runs, temperature, longest reply."""
    most_at_once: int | None
    """Questions it can take at once; None: as many as one likes."""
    reply_tokens: int
    """The longest reply, in tokens."""

    def reply(self, system: str, user: str) -> Reply:
        """The model's reply to `user` under the instructions `system`. Raises ReplyError."""


def method_of(name: str) -> str:
    """`Chat.method` of `open_chat(name)`."""
    if not name.startswith(LOCAL):
        return f"llm:{name}"
    spec = name.removeprefix(LOCAL)
    return LOCAL + (spec if ":" in spec else Path(spec).name)


def local_identity(spec: str, reply_tokens: int = REPLY_TOKENS) -> str:
    """`Chat.identity` of a model in this process, without loading it."""
    from mneme.models.identity import model_identity

    return "\0".join((LOCAL, model_identity(spec), "greedy", str(reply_tokens)))
