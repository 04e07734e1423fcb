"""The command line: `mneme --help`.

Every command is a thin door to a room; torch is imported only by those that need it. Errors are one line that
names the fix on stderr, with exit code 2; Ctrl-C exits 130 and what is done is kept.
"""

from __future__ import annotations

import os
import sys

import typer
from rich.markup import escape

from mneme._util.errors import MnemeError
from mneme.cli import (  # noqa: F401 - each registers its commands on `app`
    analyse,
    check,
    evidence,
    label,
    look,
    make,
    outcomes,
    scenarios,
    upkeep,
)
from mneme.cli.common import FIRST, app, err
from mneme.cli.repeated import check_repeated

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: errors in one line, exit codes 2 (bad input), 1 (mneme's own), 130 (Ctrl-C)."""
    # Before torch comes: its threads wait for more work by spinning, for milliseconds, on the cores that mneme's own
    # compiled loops need between two products.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        check_repeated(typer.main.get_command(app), sys.argv[1:])
        code = app(standalone_mode=False)
    except MnemeError as error:
        if FIRST:
            for note in getattr(error, "__notes__", ()):
                err.print(escape(note), highlight=False, soft_wrap=True)
        _say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _stopped()
    except Exception as error:
        # Typer's own exceptions: wrong flags (2), Ctrl-C within a prompt (Abort).
        if type(error).__name__ == "Abort":
            _stopped()
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # a group of commands alone: its help
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        _say(f"{error.format_message()} (see mneme --help)")
        sys.exit(getattr(error, "exit_code", 2))
    if code == 130:  # Typer turns Ctrl-C into this exit code
        _stopped()
    sys.exit(code or 0)


def _say(message: str) -> None:
    where = "" if FIRST else f" (process {os.environ['RANK']})"
    err.print(f"[bold red]error{where}:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _stopped() -> None:
    if FIRST:
        err.print("stopped: the same command goes on from here")
    sys.exit(130)
