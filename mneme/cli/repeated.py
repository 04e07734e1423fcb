"""Options that are given twice: the last would win in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mneme._util.errors import ConfigError


def check_repeated(command: Any, arguments: Sequence[str]) -> None:
    """Raises ConfigError where an option that takes one value is given more than once.

    command: of click; arguments: those after the program's name.
    """
    left = list(arguments)
    names = getattr(command, "commands", None)
    while names is not None:
        at = next((i for i, word in enumerate(left) if not word.startswith("-")), None)
        if at is None or left[at] not in names:
            return
        command, left = names[left[at]], left[at + 1 :]
        names = getattr(command, "commands", None)
    words = left[: left.index("--")] if "--" in left else left
    for option in command.params:
        if (
            getattr(option, "multiple", False)
            or getattr(option, "is_flag", False)
            or not hasattr(option, "is_flag")
        ):
            continue
        forms = option.opts
        given = [word for word in words if any(word == form or word.startswith(f"{form}=") for form in forms)]
        if len(given) > 1:
            raise ConfigError(f"{given[0].partition('=')[0]} is given {len(given)} times: give it once")
