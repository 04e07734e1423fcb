"""Commands that hold a prediction against what really happened: measure, import, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mneme.cli.common import MEASURE, RunArgument, app, out

if TYPE_CHECKING:
    import pandas as pd

    from mneme.run.outcomes import Coverage

outcomes_app = typer.Typer(
    no_args_is_help=True, help="Bring outcomes that were measured elsewhere into a run."
)
app.add_typer(outcomes_app, name="outcomes", rich_help_panel=MEASURE)

EveryOption = Annotated[int, typer.Option(min=1, help="Take every Nth item of a category.")]
FirstOption = Annotated[
    int, typer.Option(min=0, help="Starting at this one, e.g. --every 2 --first 1: odd rows.")
]

_ABREAST = 2  # metrics with their intervals that a terminal of 80 columns shows beside each other


@app.command(rich_help_panel=MEASURE)
def measure(
    run_folder: RunArgument,
    benchmark: Annotated[
        Path,
        typer.Option(
            help="words, synonyms or definitions: a bundled quiz (capability); or MMLU's folder, or a .jsonl, .csv or"
            " .json file of items (NLL of their text, and whether answers are right)."
        ),
    ],
    per_category: Annotated[int | None, typer.Option(min=1, help="Items of a category at most.")] = None,
    every: EveryOption = 1,
    first: FirstOption = 0,
) -> None:
    """Measure what really happened: both models on a benchmark, by category, beside the prediction.

    Predictions are of the NLL of text. Whether a model still knows an area is another question: a capability, of
    which --benchmark words measures one, and which counts only where the base beats guessing.
    """
    from mneme._util.console import RichProgress
    from mneme.run.outcomes import measure_run

    frame, covered = measure_run(
        run_folder,
        benchmark,
        per_category=per_category,
        every=every,
        first=first,
        progress=RichProgress(out),
    )
    _say(frame, covered, run_folder)


@outcomes_app.command("import")
def import_outcomes(
    base: Annotated[
        Path,
        typer.Argument(
            help="results_*.json of lm-evaluation-harness, or a log of Inspect, of the model before."
        ),
    ],
    tuned: Annotated[Path, typer.Argument(help="That of the model after.")],
    run_folder: RunArgument,
) -> None:
    """Bring in results of lm-evaluation-harness (with sample logs where they lie beside) or logs of Inspect."""
    from mneme._util.console import RichProgress
    from mneme.config import make_config, read_config
    from mneme.effects.categories import load_taxonomy
    from mneme.effects.inspect_logs import import_logs, is_inspect_log
    from mneme.effects.lm_eval import import_results
    from mneme.run.outcomes import give_outcomes
    from mneme.store.run import open_run

    open_run(run_folder)
    taxonomy = make_config(read_config(run_folder / "run.toml")).effects.taxonomy
    reader = import_logs if is_inspect_log(base) else import_results
    frame, left_out = reader(base, tuned, load_taxonomy(taxonomy).keys)
    for task, why in left_out.items():
        out.print(escape(f"left out: {task} ({why})"), highlight=False, soft_wrap=True)
    _say(frame, give_outcomes(run_folder, frame, RichProgress(out)), run_folder)


@app.command(rich_help_panel=MEASURE)
def evaluate(
    run_folder: RunArgument,
    benchmark: Annotated[
        Path | None, typer.Option(help="What the oracle reads: as for mneme measure. Without it, no oracle.")
    ] = None,
    per_category: Annotated[int, typer.Option(min=1, help="Items of a category that the oracle reads.")] = 10,
    every: EveryOption = 1,
    first: FirstOption = 0,
    difference_sae: Annotated[
        bool, typer.Option(help="Train one, for as long as the run's crosscoder was trained.")
    ] = True,
) -> None:
    """How good was the prediction? The crosscoder beside every baseline, on the outcomes of the run."""
    from mneme._util.console import RichProgress
    from mneme.effects.baseline_summary import baseline_summary
    from mneme.run.evaluation import evaluate_run

    table = evaluate_run(
        run_folder,
        benchmark=benchmark,
        per_category=per_category,
        every=every,
        first=first,
        difference_sae=difference_sae,
        progress=RichProgress(out),
    )
    metrics = list(dict.fromkeys(table["metric"]))
    for subset, rows in table.groupby("subset", sort=False):
        for start in range(0, len(metrics), _ABREAST):
            out.print(_evaluation_table(str(subset), rows, metrics[start : start + _ABREAST]))
    _say_calls(run_folder)
    out.print(escape(baseline_summary(table)), highlight=False)


def _say_calls(run_folder: Path) -> None:
    """How the verdicts fared, in the sentence that pages and report have too."""
    from mneme.store.queries.effects import effects
    from mneme.store.run import open_run
    from mneme.verdict.calls import calls_sentence

    if sentence := calls_sentence(effects(open_run(run_folder))["call"].dropna()):
        out.print(escape(sentence), highlight=False)


def _evaluation_table(subset: str, rows: pd.DataFrame, metrics: list[str]) -> Table:
    """A row a method, a column each of a few metrics: value and interval."""
    import pandas as pd

    title = f"{subset.replace('_', ' ')}: {int(rows['n'].max())} categories"
    shown = Table(box=None, header_style="dim", title=title, title_justify="left")
    for name in ("method", *metrics):
        shown.add_column(name, no_wrap=True)
    for method, own in rows[rows["metric"].isin(metrics)].groupby("method", sort=False):
        cells = dict.fromkeys(metrics, "–")
        for row in own.dropna(subset=["value"]).to_dict("records"):
            # too few categories to draw others from: a value without an interval
            known = pd.notna(row["ci_low"]) and pd.notna(row["ci_high"])
            interval = f" ({row['ci_low']:.2f}…{row['ci_high']:.2f})" if known else ""
            cells[row["metric"]] = f"{row['value']:.2f}{interval}"
        shown.add_row(escape(str(method)), *cells.values())
    return shown


def _say(frame: pd.DataFrame, covered: Coverage, run_folder: Path) -> None:

    for kind, rows in frame.groupby("kind", sort=False):
        _say_kind(str(kind), rows)
    without = ""
    if covered.without:
        named = ", ".join(covered.without[:3]) + (" ..." if len(covered.without) > 3 else "")
        without = f"; {len(covered.without)} categories of the run have no outcome ({named})"
    out.print(escape(f"{covered.measured} categories measured{without}."))
    _say_calls(run_folder)
    out.print(f"How good was the prediction? [bold]mneme evaluate {escape(str(run_folder))}[/]")


def _say_kind(kind: str, frame: pd.DataFrame) -> None:
    """A table of the outcomes of one kind; of capabilities which count is told."""
    import pandas as pd

    from mneme.effects.outcome_kinds import CAPABILITY, CHANCE_LEVEL, KINDS, few_items

    shown = Table(
        *("category", "n", "base", "tuned", "change", "95 % interval", "accuracy"),
        box=None,
        header_style="dim",
        title=f"{kind}: {KINDS[kind]}",
        title_justify="left",
    )
    for row in frame.sort_values("change", ascending=False).to_dict("records"):
        gained = row["accuracy_tuned"] - row["accuracy_base"]
        shown.add_row(
            escape(str(row["category"])),
            "–" if pd.isna(row["n"]) else f"{row['n']:.0f}",
            *(f"{row['base']:.3f}", f"{row['tuned']:.3f}", f"{row['change']:+.3f}"),
            "–" if pd.isna(row["ci_low"]) else f"{row['ci_low']:+.3f} … {row['ci_high']:+.3f}",
            "–" if pd.isna(gained) else f"{100 * gained:+.1f} points",
        )
    out.print(shown)
    units = " or ".join(dict.fromkeys(frame["unit"].astype(str)))
    paired = "independent draws" if (frame["source"] == "lm-eval results").all() else "paired by item"
    out.print(escape(f"base, tuned and change in {units}: a rise is for the worse; {paired}."))
    if few := few_items(frame):
        out.print(escape(f"warning: {few}"), style="yellow", highlight=False, soft_wrap=True)
    if kind != CAPABILITY:
        return
    level = frame["chance_q"]
    beats, at_chance = int((level <= CHANCE_LEVEL).sum()), frame.loc[level > CHANCE_LEVEL, "category"]
    told = f"The base beats guessing in {beats} of {len(frame)} categories; only these count as capability"
    if len(at_chance):
        told += f" (not: {', '.join(map(str, at_chance))})"
    if unknown := int(level.isna().sum()):
        told += f"; of {unknown} the chance level is not known (column chance of a CSV)"
    out.print(escape(told + "."))
