"""Every command does its work on a degenerate run, or says in one line why there is nothing to do."""

from __future__ import annotations

import re

import pytest
from degenerate.commands import APART, COMMANDS, REFUSED, every_command
from degenerate.conftest import KINDS, Amended

NOT_A_NUMBER = re.compile(r"(?<![\w./-])(nan|inf|None|NaT)(?![\w.])|nan%")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_works_or_says_why_not(amended: Amended, kind: str, command: str) -> None:
    code, out, err = amended.ended[kind][command]
    if (kind, command) in REFUSED:
        assert code == 2 and err.count("\n") == 1 and REFUSED[kind, command] in err, err
    else:
        assert code == 0, err
        assert not NOT_A_NUMBER.search(out), out


def test_no_command_is_forgotten() -> None:
    """A new command is called on these runs, or named with the reason why it can't be."""
    known = every_command()
    called = {
        name for name in known if any(f"{words} ".startswith(f"{name} ") for words in COMMANDS.values())
    }
    assert called | set(APART) == set(known) and not called & set(APART)
