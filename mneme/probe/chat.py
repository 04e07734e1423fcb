"""A pasted chat as turns: lines that begin with `User:`, `Assistant:` or `System:` open one."""

from __future__ import annotations

import re
from typing import Any

from mneme._util.errors import ModelError

_SPEAKER = re.compile(
    r"^[ \t]*(system|user|human|assistant|ai|model)[ \t]*:[ \t]?", re.IGNORECASE | re.MULTILINE
)
_ROLE = {"human": "user", "ai": "assistant", "model": "assistant"}


def read_chat(text: str) -> list[dict[str, str]]:
    """Turns {"role", "content"} of a pasted chat; a text without speakers is one turn of the user's."""
    marks = list(_SPEAKER.finditer(text))
    before = text[: marks[0].start()] if marks else text
    turns = [{"role": "user", "content": before.strip()}] if before.strip() else []
    for mark, following in zip(marks, [*marks[1:], None], strict=False):
        role = mark[1].lower()
        content = text[mark.end() : following.start() if following else len(text)].strip()
        turns.append({"role": _ROLE.get(role, role), "content": content})
    return turns


def render_chat(tokenizer: Any, text: str) -> str:
    """The chat as the model sees it, through the tokenizer's template; an answer is opened where one is due.

    Raises ModelError where the tokenizer has no template, or it refuses these turns.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("this model has no chat template: read the text as plain text")
    turns = read_chat(text)
    try:
        due = bool(turns) and turns[-1]["role"] != "assistant"
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=due))
    except Exception as error:  # templates raise what they like
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"the chat template refuses these turns ({reason}): let user and assistant speak in turn"
        ) from error
