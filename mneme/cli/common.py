"""What all commands share."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mneme

if TYPE_CHECKING:
    from mneme.config import RunConfig
    from mneme.store.run import Run

app = typer.Typer(
    help="What else did fine-tuning change? Compare a language model before and after.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
FIRST = os.environ.get("RANK", "0") == "0"
"""Whether this process tells people things; torchrun starts several."""
out = Console(quiet=not FIRST, emoji=False)  # a model named x:B: is no picture
err = Console(stderr=True)

DEMO = Path("runs/demo")
ANALYSE, EVIDENCE, MEASURE, MAKE, LOOK = "Analyse", "Evidence", "Measure", "Make", "Look"
"""Groups of commands in `mneme --help`."""

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, e.g. runs/demo.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Where the dashboard listens, on 127.0.0.1.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated."),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace", help="Other settings or inputs may replace what the folder's run has finished."
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that comes with a model; it can do anything you can, so read it first.",
    ),
]
CorpusOption = Annotated[str, typer.Option(help="Text: bundled, a file, a folder, hf:NAME.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Say on stderr what is skipped, asked again or done another way."
        ),
    ] = False,
) -> None:
    _tell(logging.DEBUG if verbose else logging.WARNING)
    if version:
        out.print(mneme.__version__, highlight=False)
        raise typer.Exit
    if context.invoked_subcommand is None:
        out.print(context.get_help())
        raise typer.Exit


class _Teller(logging.Handler):
    """Writes to stderr, a line a record."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(
            f"{record.levelname.lower()}: {self.format(record)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


_TELLER = _Teller() if FIRST else logging.NullHandler()


def _tell(level: int) -> None:
    """Have what mneme logs from a level on written to stderr, by the first process only."""
    log = logging.getLogger("mneme")
    log.setLevel(level)
    log.addHandler(_TELLER)


def run_stages(config: RunConfig, folder: Path, first: str | None = None, *, replace: bool = False) -> Run:
    """Do what is to do of a run, and show what it took; processes other than the first end here."""
    from mneme._util.console import RichProgress
    from mneme.run.pipeline import run_pipeline

    pair = f"[bold]{escape(config.base)}[/] → [bold]{escape(config.tuned)}[/]"
    out.print(f"{pair} in {escape(str(folder))}", highlight=False)
    before = _finished(folder) if first is None else None
    made = run_pipeline(config, folder, RichProgress(out), first=first, replace=replace)
    if not FIRST:
        raise typer.Exit
    if before is not None and before == _finished(folder):
        out.print("nothing to do: every stage was made from these settings and inputs before")
    print_summary(made)
    return made


def _finished(folder: Path) -> list[object] | None:
    """What each finished stage of a run took and was made from; None where there is no run."""
    from mneme._util.errors import MnemeError
    from mneme.store.queries.quality import stage_rows
    from mneme.store.run import open_run

    try:
        return list(stage_rows(open_run(folder)))
    except MnemeError:  # told by what comes next
        return None


def print_summary(run: Run) -> None:
    """What each stage took, and the verdict."""
    table = Table("stage", "time", "peak memory", box=None, header_style="dim")
    from mneme.store.queries.quality import stage_rows

    for stage, seconds, peak, _ in stage_rows(run):
        # A stage that an earlier mneme did within another has no time of its own.
        taken = "–" if seconds is None else f"{seconds:.1f} s"
        table.add_row(stage, taken, "–" if peak is None else f"{peak / 1000:.2f} GB")
    out.print(table)
    out.print()
    out.print(escape(run.info().get("verdict_sentence", "")), style="bold", highlight=False)
    out.print()
