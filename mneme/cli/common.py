"""What all commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import mneme

app = typer.Typer(
    help="What else did fine-tuning change? Compare a language model before and after.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
FIRST = os.environ.get("RANK", "0") == "0"
"""Whether this process tells people things; torchrun starts several."""
out = Console(quiet=not FIRST)
err = Console(stderr=True)

DEMO = Path("runs/demo")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, e.g. runs/demo.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="The run's folder.")]
PortOption = Annotated[int, typer.Option(min=1, max=65535, help="Where the dashboard listens, on 127.0.0.1.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="SECTION.KEY=VALUE", help="Any other setting; may be repeated."),
]
CorpusOption = Annotated[str, typer.Option(help="Text: bundled, a file, a folder, hf:NAME.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(mneme.__version__, highlight=False)
        raise typer.Exit
