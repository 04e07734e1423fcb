"""`mneme evidence`: what takes longer than a run, as one job that goes on where it was stopped."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme.cli.common import EVIDENCE, RunArgument, app, out


@app.command(rich_help_panel=EVIDENCE)
def evidence(
    run_folder: RunArgument,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PART", help="This part only; may be repeated: see --list.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say what is done and what is not, and stop.")] = False,
) -> None:
    """Test a finished run: patching, other seeds, nulls, power retrained. Parts that are done are skipped."""
    from mneme._util.console import RichProgress
    from mneme.run.evidence import chosen_parts, run_evidence

    names = [name for text in only or () for name in text.split(",") if name]
    if show:
        _print_states(run_folder, [part.name for part in chosen_parts(names)])
        return
    signal.signal(signal.SIGTERM, _stop)  # what is done is kept, and said to be stopped
    notes = run_evidence(run_folder, only=names, progress=RichProgress(out))
    _print_states(run_folder, [part.name for part in chosen_parts(names)])
    for name, note in notes.items():
        out.print(f"{name}: {escape(note)}", highlight=False, soft_wrap=True)
    if notes:
        raise typer.Exit(1)


def _stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C."""
    raise KeyboardInterrupt


def _print_states(folder: Path, names: list[str]) -> None:
    from mneme.store.run import open_run

    table = Table("part", "what it tells", "state", box=None, header_style="dim")
    states = open_run(folder).evidence()
    for row in states[states["part"].isin(names)].to_dict("records"):
        note = f" ({row['note']})" if row["note"] else ""
        table.add_row(row["part"], row["tells"], escape(f"{row['state']}{note}"))
    out.print(table)
