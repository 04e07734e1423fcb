"""Commands that check a finished run: null pairs and other seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme.cli.common import RunArgument, app, out


@app.command()
def null(
    run_folder: RunArgument,
    benign: Annotated[
        list[Path] | None, typer.Option(help="A run of two tunes that should not differ; may be repeated.")
    ] = None,
) -> None:
    """How often is a change called where there is none? Null pairs through the same machinery."""
    from mneme.checks import run_nulls
    from mneme.config import make_config, read_config
    from mneme.console import RichProgress

    table, margin = run_nulls(run_folder, benign=benign or (), progress=RichProgress(out))
    shown = Table(
        "null pair", "latents", "called changed", "rate", "95 % interval", box=None, header_style="dim"
    )
    for row in table.itertuples():
        interval = f"{row.ci_low:.2%} … {row.ci_high:.2%}"
        shown.add_row(escape(str(row.kind)), f"{row.n:,}", f"{row.n_false:,}", f"{row.rate:.2%}", interval)
    out.print(shown)
    used = make_config(read_config(run_folder / "run.toml")).attribution.margin
    if margin > used:
        again = (
            f"mneme run {run_folder / 'run.toml'} --out {run_folder} --set attribution.margin={margin:.3f}"
        )
        out.print(f"The nulls ask for a margin of {margin:.3f} (this run: {used:g}). Judge again with it:")
        out.print(escape(again), style="bold", soft_wrap=True, highlight=False)
    else:
        out.print(f"The run's margin of {used:g} is enough for all of them.")


@app.command()
def stability(
    run_folder: RunArgument,
    seeds: Annotated[int, typer.Option(help="How many other seeds to train.")] = 3,
) -> None:
    """Which latents and verdicts does another seed find again?"""
    from mneme.checks import run_stability
    from mneme.console import RichProgress

    found = run_stability(run_folder, seeds=seeds, progress=RichProgress(out))
    shown = Table("found again", "share", box=None, header_style="dim")
    for name, value in found.items():
        known = {
            "latents": "live latents",
            "pw_mcc": "PW-MCC (mean cosine)",
            "categories": "categories, same verdict",
        }
        words = known.get(name, f"{name} latents, same verdict")
        shown.add_row(words, f"{value:.1%}" if name != "pw_mcc" else f"{value:.3f}")
    out.print(shown)
