"""Commands that look into finished runs: a text of one's own, two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme._util.vocabulary import CHANGED
from mneme.cli.common import LOOK, RunArgument, app, out


@app.command(rich_help_panel=LOOK)
def probe(
    run_folder: RunArgument,
    text: Annotated[str, typer.Option(help="What both models read, at most 512 tokens.")],
    chat: Annotated[bool, typer.Option("--chat", help="`User:` and `Assistant:` lines are turns.")] = False,
) -> None:
    """Read your own text: what the models say of each token, and the latents that fire there."""
    from mneme.probe.probe import Prober

    found = Prober.of_run(run_folder).read(text, chat=chat)
    shown = Table("token", "KL", "NLL base", "NLL tuned", "strongest latents", box=None, header_style="dim")
    firing: dict[int, list[tuple[float, int]]] = {}
    for row, latent, activation in zip(found.row, found.latent, found.activation, strict=True):
        firing.setdefault(row, []).append((activation, latent))
    for i, token in enumerate(found.tokens):
        numbers = (found.kl[i], found.nll_base[i], found.nll_tuned[i])
        strongest = ", ".join(
            f"{latent} ({f:.3g})" for f, latent in sorted(firing.get(i, []), reverse=True)[:4]
        )
        shown.add_row(
            escape(repr(token)[1:-1]), *("" if v is None else f"{v:.3f}" for v in numbers), strongest
        )
    out.print(shown)


@app.command(rich_help_panel=LOOK)
def compare(
    run_folder: RunArgument,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="The second run's folder.")],
) -> None:
    """Two runs (layers, seeds, tunes): which latents are the same, and is the verdict?"""
    from mneme.compare.cache import CompareFile
    from mneme.store.queries.compare import both_effects, both_latents, other_layers
    from mneme.store.run import open_run

    runs = (open_run(run_folder), open_run(other))
    kept = CompareFile(run_folder, other)
    found = kept.read() or kept.make()
    both = both_latents(*runs, found.latents)
    agreed = both[both["agreed"]]
    called = agreed[agreed["verdict"].isin(CHANGED)]
    effects = both_effects(*runs)
    out.print(f"{found.why} Matched by {found.method}.", highlight=False)
    if beware := other_layers(*runs):
        out.print(beware, highlight=False)
    shown = Table(box=None, show_header=False)
    shown.add_row("latents found in both", f"{len(agreed):,} of {len(both):,} pairs")
    shown.add_row("of them called changed by the first", f"{len(called):,}")
    shown.add_row("with the same verdict in the second", f"{int((~called['change']).sum()):,}")
    shown.add_row("categories of another verdict", f"{int(effects['change'].sum()):,} of {len(effects):,}")
    out.print(shown)
