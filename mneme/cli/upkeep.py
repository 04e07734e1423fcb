"""Commands that look after a machine: which runs there are, what can be deleted, and whether all is in place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme.cli.common import LOOK, app, out

if TYPE_CHECKING:
    from mneme.run.leftovers import Leftover


@app.command(name="list", rich_help_panel=LOOK)
def list_all(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("runs"),
) -> None:
    """List the runs of a folder: state, models, verdict."""
    from mneme._util.errors import UserError
    from mneme.store.queries.runs import list_runs

    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name a folder of runs, or make one with `mneme demo`")
    entries = list_runs(folder)
    if not entries:
        out.print(f"no run in {escape(str(folder))}: `mneme demo` makes one")
        return
    shown = Table("run", "state", "base", "tuned", "verdict", box=None, header_style="dim")
    for each in entries:
        models = (escape(each.facts.get(name, "–")) for name in ("base", "tuned"))
        said = each.facts.get("verdict_sentence") or each.error or "–"
        shown.add_row(escape(each.name), each.state, *models, escape(said))
    out.print(shown)


@app.command(rich_help_panel=LOOK)
def clean(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")] = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Delete what is listed.")] = False,
) -> None:
    """Say what can be deleted (half-written files, checkpoints of finished trainings, caches); --yes deletes it."""
    from mneme.run.leftovers import delete, leftovers

    found = leftovers(folder)
    if not found:
        out.print("nothing to clean")
        return
    out.print(_table(found))
    size = _size(sum(each.size for each in found))
    if yes:
        delete(found)
        out.print(f"deleted {size}")
    else:
        out.print(f"{size} in all: [bold]mneme clean {escape(str(folder))} --yes[/] deletes it")


def _table(found: list[Leftover]) -> Table:
    shown = Table("what", "size", "why it can go", box=None, header_style="dim")
    for each in found:
        shown.add_row(escape(str(each.path)), _size(each.size), each.why)
    return shown


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


@app.command(rich_help_panel=LOOK)
def doctor() -> None:
    """Check this machine: versions, threads, bfloat16, GPU, encoder, labelling server. Exits 1 on a problem."""
    from mneme.run.doctor import examine

    shown = Table("", "", "", box=None, show_header=False)
    findings = examine()
    for each in findings:
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: "–"}[each.fine]
        shown.add_row(mark, each.what, escape(each.said))
    out.print(shown)
    if any(each.fine is False for each in findings):
        raise typer.Exit(1)
