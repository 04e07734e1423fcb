"""`mneme label`: names for the latents of a finished run, their price first, and explainers compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mneme._util.errors import UserError
from mneme.cli.common import ANALYSE, RunArgument, SetOption, app, out, run_stages

if TYPE_CHECKING:
    from mneme.interpret.label_config import LabelConfig
    from mneme.store.run import Run


@app.command(rich_help_panel=ANALYSE)
def label(
    run_folder: RunArgument,
    model: Annotated[
        str | None, typer.Option(help="The server's model. [default: OPENAI_MODEL of the environment]")
    ] = None,
    local: Annotated[
        str | None,
        typer.Option(help="A causal language model in this process: folder, hub id, bundled:base."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no language model.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Explainers to compare, e.g. A,B,local:FOLDER,offline (A, B: the server's models)."
        ),
    ] = None,
    latents: Annotated[
        int | None, typer.Option(min=1, help="Most latents: changed ones, most severe first.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Most tokens, prompt and reply, of each explainer.")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            help="Price of a million prompt and reply tokens: IN,OUT or MODEL=IN,OUT; may be repeated."
        ),
    ] = None,
    max_cost: Annotated[float | None, typer.Option(min=0, help="Most money; needs --price.")] = None,
    unchanged: Annotated[
        bool, typer.Option("--all", help="After the changed latents the other live ones, up to --latents.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would ask and cost.")] = False,
    settings: SetOption = None,
) -> None:
    """Label the changed latents of a run: by the server of OPENAI_BASE_URL / OPENAI_API_KEY, or a local model."""
    from mneme.config import make_config, read_config
    from mneme.interpret.explainers.names import budget_of, check_explainers, explainer_names
    from mneme.store.run import open_run

    run = open_run(run_folder)
    if sum((model is not None, local is not None, offline, compare is not None)) > 1:
        raise UserError("--model, --local, --offline and --compare exclude each other: give one")
    values = read_config(run_folder / "run.toml")
    given = values.setdefault("labels", {})
    for key in ("model", "local", "compare"):
        given.pop(key, None)
    given["llm"] = "off" if offline or local or compare else "on"
    flags: dict[str, Any] = {
        "model": model,
        "local": local,
        "compare": [name.strip() for name in compare.split(",") if name.strip()] if compare else None,
        "llm_max_latents": latents,
        "llm_max_tokens": budget,
        "prices": price,
        "max_cost": max_cost,
        "llm_unchanged": unchanged or None,
    }
    given |= {key: value for key, value in flags.items() if value is not None}
    config = make_config(values, settings or [])
    for name in explainer_names(config.labels):
        budget_of(name, config.labels)
    if dry_run:
        _print_estimate(run, config.labels)
        return
    check_explainers(config.labels)
    made = run_stages(config, run_folder, first="labels")
    _print_labels(made)


def _print_estimate(run: Run, config: LabelConfig) -> None:
    from mneme.run.label_price import prices

    found = prices(run, config)
    if not found:
        out.print("Offline labels only: nothing is asked and nothing is paid.")
        return
    table = Table(
        "explainer", "latents", "requests", "prompt tokens", "reply tokens, most", "price, most",
        box=None, header_style="dim",
    )  # fmt: skip
    for row in found:
        money = "unknown" if row.money is None else f"{row.money:,.4f}"
        numbers = (row.latents, row.calls, row.prompt_tokens, row.reply_tokens)
        table.add_row(escape(row.method), *(f"{n:,}" for n in numbers), money)
    out.print(table)
    if any(row.money is None for row in found):
        out.print("No price is known: give --price IN,OUT, what a million prompt and reply tokens cost.")
    if config.llm_score:
        out.print(
            f"labels.llm_score is on: {found[0].method} then judges the labels too, which is not in this table:"
            " about as many tokens again, under a budget of the same size.",
            markup=False,
            soft_wrap=True,
        )
    out.print("Tokens are estimated at three characters each. Nothing was asked.")


def _print_labels(run: Run) -> None:
    """How many came, what failed, and the comparison where there is one."""
    from mneme.store.queries import explainers as comparison
    from mneme.store.queries.quality import label_counts

    for method, n in label_counts(run):
        out.print(f"{n:,} labels by {escape(method)}", highlight=False, soft_wrap=True)
    for method, reason, n in comparison.failures(run):
        out.print(
            f"{n:,} without a label by {escape(method)}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    found = comparison.method_rows(run)
    if not found:
        return
    table = Table(box=None, header_style="dim")
    for name in ("explainer", "labelled", "score (95 %)", "shuffled", "tokens", "money", "s"):
        table.add_column(name, no_wrap=True)
    for row in found:
        table.add_row(
            escape(row["method"]),
            f"{row['n_labelled']:,} of {row['n_asked']:,}",
            _with_interval(row["score"], row["ci_low"], row["ci_high"]),
            _number(row["score_shuffled"], ".2f"),
            f"{row['tokens']:,}",
            "unknown" if row["money"] is None else f"{row['money']:,.2f}",
            _number(row["seconds"], ",.0f"),
        )
    out.print(table)
    n = max(row["n_scored"] for row in found)
    out.print(f"Scores: held-out balanced accuracy on the {n:,} latents that all who labelled have one on.")
    for pair in comparison.pair_rows(run):
        out.print(
            f"{escape(pair['method'])} and {escape(pair['other'])}: cosine {_number(pair['cosine'], '.2f')},"
            f" same category {_number(pair['same_category'], '.0%')}, {pair['n']:,} latents",
            highlight=False,
            soft_wrap=True,
        )


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """0.74 (0.69…0.79)."""
    return "–" if value is None else f"{value:.2f} ({_number(low, '.2f')}…{_number(high, '.2f')})"


def _number(value: float | None, form: str) -> str:
    """In this format; a dash for what there is none of."""
    return "–" if value is None else format(value, form)
