"""Commands that check a finished run: null pairs, other seeds, patching."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme._util.errors import ConfigError
from mneme.cli.common import EVIDENCE, RunArgument, app, out

if TYPE_CHECKING:
    from mneme.store.run import Run


@app.command(rich_help_panel=EVIDENCE)
def null(
    run_folder: RunArgument,
    benign: Annotated[
        list[Path] | None, typer.Option(help="A run of two tunes that should not differ; may be repeated.")
    ] = None,
) -> None:
    """How often is a change called where there is none? Null pairs through the same machinery."""
    import pandas as pd

    from mneme._util.console import RichProgress
    from mneme.config import make_config, read_config
    from mneme.run.nulls import run_nulls

    found = run_nulls(run_folder, benign=benign or (), progress=RichProgress(out))
    columns = ("null pair", "latents", "called changed", "rate", "95 % interval", "categories affected")
    shown = Table(*columns, box=None, header_style="dim")
    for row in found.table.to_dict("records"):
        # no latent lives: nothing was judged, and nothing is a share of it
        judged = bool(row["n"])
        interval = f"{row['ci_low']:.2%} … {row['ci_high']:.2%}" if judged else "–"
        known = pd.notna(row.get("n_categories"))
        affected = f"{row['n_affected']:.0f} of {row['n_categories']:.0f}" if known else "–"
        counts = (f"{row['n']:,}", f"{row['n_false']:,}", f"{row['rate']:.2%}" if judged else "–")
        shown.add_row(escape(str(row["kind"])), *counts, interval, affected)
    out.print(shown)
    config = make_config(read_config(run_folder / "run.toml"))
    thresholds = (
        ("margin", "attribution.margin", found.margin, config.attribution.margin),
        (
            "affected_share",
            "effects.min_affected_share",
            found.min_affected_share,
            config.effects.min_affected_share,
        ),
    )
    more = [each for each in thresholds if each[2] > each[3]]
    for name, _, asked, used in more:
        out.print(f"The nulls ask for a {name} of {asked:.3f} (this run: {used:g}).")
    if more:
        changes = " ".join(f"--set {setting}={asked + 0.0005:.3f}" for _, setting, asked, _ in more)
        again = f"mneme run {run_folder / 'run.toml'} --out {run_folder} --replace {changes}"
        out.print("Judge again with it:")
        out.print(escape(again), style="bold", soft_wrap=True, highlight=False)
    else:
        out.print(
            f"The run's margin of {config.attribution.margin:g} and affected share of"
            f" {config.effects.min_affected_share:g} are enough for all of them."
        )


_STABILITY = {
    "latents": "live latents, from another start",
    "changed": "latents called changed, from another start",
    "resampled": "live latents, on resampled documents",
    "overlap": "directions of the change (squared cosine)",
    "r2": "change at each token (R2)",
    "pw_mcc": "PW-MCC (mean cosine)",
    "categories": "categories, same verdict",
}


@app.command(rich_help_panel=EVIDENCE)
def stability(
    run_folder: RunArgument,
    seeds: Annotated[int, typer.Option(help="How many other seeds to train.")] = 3,
    resamples: Annotated[
        int, typer.Option(help="How many dictionaries to train on documents drawn anew.")
    ] = 1,
) -> None:
    """Which latents, verdicts and changes do other seeds and other text find again?"""
    from mneme._util.console import RichProgress
    from mneme.run.stability import run_stability

    found = run_stability(run_folder, seeds=seeds, resamples=resamples, progress=RichProgress(out))
    shown = Table("found again", "share", box=None, header_style="dim")
    for name, value in found.items():
        words = _STABILITY.get(name, f"{name} latents, same verdict")
        number = f"{value:.3f}" if name in ("overlap", "r2", "pw_mcc") else f"{value:.1%}"
        shown.add_row(words, "–" if math.isnan(value) else number)
    out.print(shown)


@app.command(rich_help_panel=EVIDENCE)
def power(
    run_folder: RunArgument,
    retrain: Annotated[
        bool,
        typer.Option("--retrain", help="Train the dictionary anew on one such change, of a few sizes."),
    ] = False,
) -> None:
    """What could this run have found? Changes of known sizes, added to its activations and looked for."""
    from mneme._util.console import RichProgress

    if retrain:
        _print_retrained(run_folder)
        return
    from mneme.power.summary import sentence
    from mneme.run.power import run_power
    from mneme.store.queries.quality import power as power_table

    table = power_table(run_power(run_folder, progress=RichProgress(out)))
    columns = ("channel", "margin", "found at the margin", "smallest size found (80 %)")
    shown = Table(*columns, box=None, header_style="dim")
    for row in table[table["category"].isna()].to_dict("records"):
        known = row["minimum_detectable"] == row["minimum_detectable"]
        smallest = f"{row['minimum_detectable']:.2g}" if known else "none of those tried"
        shown.add_row(
            row["channel"], f"{row['margin']:.2g} {row['unit']}", f"{row['at_margin']:.0%}", smallest
        )
    out.print(shown)
    out.print(sentence(table), soft_wrap=True, highlight=False)


def _print_retrained(run_folder: Path) -> None:
    from mneme._util.console import RichProgress
    from mneme.run.power_retrain import run_retrained

    found = run_retrained(run_folder, progress=RichProgress(out))
    columns = ("category", "size", "latents called", "cosine", "affected share (95 %)", "found")
    shown = Table(*columns, box=None, header_style="dim")
    for row in found.to_dict("records"):
        affected = f"{row['affected_share']:.3f} … {row['affected_share_low']:.3f} to {row['affected_share_high']:.3f}"
        cells = (f"{row['size']:.2g}", f"{row['called']:,}", f"{row['cosine']:.2f}", affected)
        shown.add_row(escape(str(row["category"])), *cells, "yes" if row["found"] else "no")
    out.print(shown)


@app.command("read-out", rich_help_panel=EVIDENCE)
def read_out(
    run_folder: RunArgument,
    dictionary: Annotated[
        list[str] | None, typer.Option(help="base or tuned: the model it is trained on; default: both.")
    ] = None,
) -> None:
    """What does the tuned model stop using? Dictionaries of one model alone, read on each."""
    from mneme._util.console import RichProgress
    from mneme.crosscoder.config import READ_OUT
    from mneme.report.read_out import read_outs, sentence
    from mneme.run.read_out import run_read_out
    from mneme.store.run import open_run

    run_read_out(run_folder, dictionaries=dictionary or READ_OUT, progress=RichProgress(out))
    for found in read_outs(open_run(run_folder)):
        out.print(sentence(found), soft_wrap=True, highlight=False)
        shown = Table("latent", "log ratio", "documents", "label", box=None, header_style="dim")
        for row in found.latents:
            ratio = "–" if row.log_ratio is None else f"{row.log_ratio:.2f}"
            shown.add_row(f"{row.latent:,}", ratio, str(row.n_documents), escape(row.label or "–"))
        if found.latents:
            out.print(shown)


@app.command(rich_help_panel=EVIDENCE)
def causal(
    run_folder: RunArgument,
    latents: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Latents to patch one by one; default: changed ones.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Without --latents: this many, the most severe changed ones.")
    ] = 12,
    contexts: Annotated[int, typer.Option(min=1, help="Top contexts of each that are read.")] = 8,
    tokens: Annotated[
        int, typer.Option(min=0, help="Text on which all changed latents are patched together; 0: none.")
    ] = 8192,
    findings: Annotated[
        int,
        typer.Option(min=0, help="Findings patched one by one on the same text, the first ones; 0: none."),
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the controls.")] = 0,
) -> None:
    """Do the latents found make the predictions differ? Their change is patched out, and in."""
    from mneme._util.console import RichProgress
    from mneme.run.causal import run_causal

    run = run_causal(
        run_folder,
        latents=None if latents is None else _numbers(latents),
        limit=limit,
        contexts=contexts,
        tokens=tokens,
        findings=findings,
        seed=seed,
        progress=RichProgress(out),
    )
    _print_causal(run)
    _print_findings(run)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ConfigError(f"--latents {text}: give numbers with commas between, e.g. 1,2,3") from error


def _print_findings(run: Run) -> None:
    """A row a finding that was patched."""
    from mneme.report.format import interval, percent
    from mneme.store.queries.findings import findings

    tested = findings(run).dropna(subset="causal_share")
    if tested.empty:
        return
    shown = Table(
        "finding", "share of KL undone (95 %)", "PCA of its rank", "of PCA's", box=None, header_style="dim"
    )
    for row in tested.to_dict("records"):
        undone = interval(row["causal_share"], row["causal_low"], row["causal_high"])
        shown.add_row(escape(str(row["name"])), undone, percent(row["causal_pca"]), percent(row["of_pca"]))
    out.print(shown)


def _print_causal(run: Run) -> None:
    from mneme.causal.patching_sentences import gain, joint_sentences, share
    from mneme.store.queries import causal as queries

    for sentence in joint_sentences(queries.together(run)):
        out.print(sentence, soft_wrap=True, highlight=False)
    found = queries.every_latent(run)
    shown = Table(
        "latent undone", "share of KL (95 %)", "beyond control", "share of NLL", box=None, header_style="dim"
    )
    for row in found[found["patch"] == "undo"].to_dict("records"):
        shown.add_row(f"{row['latent']:,}", share(row, "kl"), gain(row), share(row, "nll"))
    out.print(shown)
