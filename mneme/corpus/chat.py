"""Lay a conversation out as text: by the model's own chat template where it has one, else by names of speakers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mneme.corpus.fields import Turn

_NAMES = {"user": "User", "assistant": "Assistant", "system": "System"}


def plain_chat(turns: Sequence[Turn]) -> str:
    """`User: ...` and `Assistant: ...`, with an empty line between turns."""
    return "\n\n".join(
        f"{_NAMES.get(turn['role'], turn['role'].capitalize())}: {turn['content']}" for turn in turns
    )


class ChatLayout:
    """Renders conversations; the tokenizers are loaded at the first one.

    tokenizers: give a tokenizer each, asked in turn until one has a chat template.
    """

    def __init__(self, tokenizers: Sequence[Callable[[], Any]] = ()) -> None:
        self._tokenizers = tokenizers
        self._asked = False
        self._tokenizer: Any = None
        self.n_template, self.n_plain = 0, 0

    def __call__(self, turns: Sequence[Turn]) -> str:
        """The text of one conversation, without the token that opens a text: every window gets its own."""
        if not self._asked:
            self._asked = True
            each = (give() for give in self._tokenizers)
            self._tokenizer = next((t for t in each if getattr(t, "chat_template", None)), None)
        text = self._by_template(turns) if self._tokenizer is not None else None
        if text is None:
            self.n_plain += 1
            return plain_chat(turns)
        self.n_template += 1
        return text

    def _by_template(self, turns: Sequence[Turn]) -> str | None:
        for attempt in (turns, _system_folded(turns)):
            try:
                text = str(self._tokenizer.apply_chat_template(list(attempt), tokenize=False))
            except Exception:  # templates raise what they like
                continue
            return text.removeprefix(self._tokenizer.bos_token or "")
        return None

    @property
    def note(self) -> str:
        """How conversations were laid out, in words; empty where there were none."""
        said = []
        if self.n_template:
            said.append(f"{self.n_template:,} conversations laid out by the model's chat template")
        if self.n_plain:
            why = (
                "which its chat template refuses"
                if self._tokenizer is not None
                else "the model has no chat template"
            )
            said.append(f"{self.n_plain:,} as lines `User:` and `Assistant:` ({why})")
        return ", ".join(said)


def _system_folded(turns: Sequence[Turn]) -> list[Turn]:
    """The turns with what the system says in front of the first thing that the user does."""
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [dict(turn) for turn in turns if turn["role"] != "system"]
    if system and others and others[0]["role"] == "user":
        others[0]["content"] = f"{system}\n\n{others[0]['content']}"
    return others
