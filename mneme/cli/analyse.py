"""Commands that make, read and show runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from mneme._util.errors import UserError
from mneme.cli.common import (
    ANALYSE,
    DEMO,
    LOOK,
    CorpusOption,
    OutOption,
    PortOption,
    ReplaceOption,
    RunArgument,
    SetOption,
    TrustOption,
    app,
    out,
    print_summary,
    run_stages,
)

if TYPE_CHECKING:
    from mneme.config import RunConfig


@app.command(rich_help_panel=ANALYSE)
def demo(
    folder: OutOption = DEMO,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the text, in under 90 seconds.")
    ] = False,
    serve: Annotated[bool, typer.Option(help="Open the dashboard when done.")] = True,
    evidence: Annotated[
        bool, typer.Option(help="Behind the open dashboard, test what takes longer: `mneme evidence`.")
    ] = True,
    port: PortOption = 8501,
    settings: SetOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Diff the bundled pair: SmolLM2-135M-Instruct before and after unlearning biology."""
    from mneme.config import make_config
    from mneme.models.bundled import bundled_base_file
    from mneme.run.demo import demo_settings

    bundled_base_file()  # told before anything is done
    if serve:
        from mneme.cli.server import check_port

        check_port(port)
    if quick and folder == DEMO:
        folder = DEMO.with_name("demo-quick")
    config = make_config(demo_settings(quick=quick), settings or [])
    run_stages(config, folder, replace=replace)
    if serve:
        _serve_alone(folder, port, evidence=evidence)


@app.command(rich_help_panel=ANALYSE)
def run(
    config: Annotated[Path | None, typer.Argument(help="A TOML settings file.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The model before: hub id, folder, .gguf, adapter.")
    ] = None,
    tuned: Annotated[str | None, typer.Option(help="The model after, given in the same ways.")] = None,
    corpus: Annotated[str | None, typer.Option(help="Text: bundled, a file, a folder, hf:NAME.")] = None,
    text_field: Annotated[
        str | None,
        typer.Option(
            help="Field that is the text, A.B inside of objects. [default: text, content, or a conversation]"
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Read after this layer. [default: chosen by a profile of all layers]")
    ] = None,
    intended: Annotated[
        list[str] | None,
        typer.Option(
            help="A category that the tuning was meant to change: told apart from side effects; may be repeated."
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="quick, default or thorough; files, flags and --set go over it.")
    ] = "default",
    folder: OutOption = Path("runs/diff"),
    settings: SetOption = None,
    replace: ReplaceOption = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check all settings, say what it would take (tokens, disk, memory), and stop."
        ),
    ] = False,
) -> None:
    """Compare a base model with its tuned version: every stage, from activations to the report."""
    from mneme.config import make_config, read_config
    from mneme.config.presets import over
    from mneme.config.presets import preset as settings_of

    values = over(settings_of(preset), read_config(config) if config else {})
    given = {"base": base, "tuned": tuned, "corpus": corpus, "text_field": text_field}
    flags = {key: value for key, value in given.items() if value is not None}
    values |= flags
    origins = {key: f"--{key.replace('_', '-')}" for key in flags}
    if layer is not None:
        values["harvest"] = {**values.get("harvest", {}), "layer": layer}
        origins["harvest.layer"] = "--layer"
    if intended:
        values["effects"] = {**values.get("effects", {}), "intended": intended}
        origins["effects.intended"] = "--intended"
    made = make_config(values, settings or [], file=config, origins=origins)
    if dry_run:
        _estimate(made, folder, replace)
        return
    run_stages(made, folder, replace=replace)
    out.print(f"Look at it: [bold]mneme dashboard {escape(str(folder))}[/]")


@app.command(name="import", rich_help_panel=ANALYSE)
def import_crosscoder(
    crosscoder: Annotated[str, typer.Argument(help="A trained crosscoder: file, folder or hub id.")],
    base: Annotated[str, typer.Option(help="The model before.")],
    tuned: Annotated[str, typer.Option(help="The model after.")],
    layer: Annotated[
        int | None, typer.Option(help="The layer whose output it reads. [default: what its own files say]")
    ] = None,
    corpus: CorpusOption = "bundled",
    folder: OutOption = Path("runs/imported"),
    settings: SetOption = None,
    replace: ReplaceOption = False,
) -> None:
    """Analyse a pair with a crosscoder that somebody else trained."""
    from mneme.config import make_config

    values: dict[str, Any] = {"base": base, "tuned": tuned, "corpus": corpus, "load_crosscoder": crosscoder}
    values["harvest"] = {"layer": _layer_of(crosscoder) if layer is None else layer}
    made = make_config(values, settings or [], origins={"harvest.layer": "--layer"})
    run_stages(made, folder, replace=replace)


@app.command(rich_help_panel=LOOK)
def dashboard(
    path: Annotated[Path, typer.Argument(help="A run, or a folder of runs.")] = Path("runs"),
    port: PortOption = 8501,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Behind the open page, test the run: `mneme evidence`.")
    ] = False,
) -> None:
    """Open the dashboard on 127.0.0.1."""
    from mneme.store.run import open_run

    if (path / "run.duckdb").exists():
        open_run(path)
        _serve(path.resolve().parent, port, path, evidence=evidence)
    elif path.is_dir():
        _serve(path, port)
    else:
        raise UserError(f"{path} is neither a run nor a folder of runs: make one with `mneme demo`")


@app.command(rich_help_panel=ANALYSE)
def report(
    run_folder: RunArgument,
    folder: Annotated[Path | None, typer.Option("--out", "-o", help="[default: RUN/report]")] = None,
) -> None:
    """Write the side-effect report: HTML, Markdown, JSON, CSV, Parquet."""
    from mneme.report import write_report
    from mneme.store.run import open_run
    from mneme.store.writing import refresh_manifest

    target = folder or run_folder / "report"
    for path in write_report(open_run(run_folder), target):
        out.print(escape(str(path)), highlight=False, soft_wrap=True)
    if target.resolve().is_relative_to(run_folder.resolve()) and (run_folder / "manifest.json").exists():
        refresh_manifest(run_folder)


@app.command(rich_help_panel=LOOK)
def info(
    path: Annotated[str, typer.Argument(help="A run's folder, or a model.")],
    trust: TrustOption = False,
) -> None:
    """Say what a run or a model is."""
    from mneme.store.run import open_run

    if (Path(path) / "run.duckdb").exists():
        found = open_run(path)
        facts = found.info()
        print_facts({key: value for key, value in facts.items() if key not in ("verdict_sentence", "inputs")})
        print_summary(found)
        return
    from mneme.models import layers, load_model

    model = load_model(path, trust_remote_code=trust)
    config = model.config.get_text_config()
    print_facts(
        {
            "model": path,
            "architecture": type(model).__name__,
            "layers": layers.n_layers(model),
            "width": layers.width(model),
            "vocabulary": config.vocab_size,
            "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        }
    )


def _layer_of(crosscoder: str) -> int:
    """What the files of a crosscoder say; UserError where they don't."""
    from mneme.crosscoder.formats import read
    from mneme.crosscoder.origin import check_origin

    origin = read(crosscoder).origin
    if origin.layer is None:
        raise UserError(f"{crosscoder} does not say which layer it reads: give --layer")
    check_origin(crosscoder, origin, max(origin.layer, 0))
    return origin.layer


def _estimate(config: RunConfig, folder: Path, replace: bool) -> None:
    from mneme._util.progress import NULL_PROGRESS
    from mneme.run.context import RunContext
    from mneme.run.pipeline import would_lose
    from mneme.run.preflight import preflight
    from mneme.run.replacing import check_loss

    context = RunContext(config, folder, NULL_PROGRESS)
    expected = preflight(context)
    assert expected is not None
    for line in (*context.corpus.notes, expected.sentence(), expected.warning):
        if line:
            out.print(escape(line), highlight=False, soft_wrap=True)
    if not replace:
        check_loss(context.run, would_lose(context))


def _serve_alone(folder: Path, port: int, *, evidence: bool) -> None:
    """`mneme dashboard FOLDER` in place of this process, whose models and activations would stay in memory with it."""
    out.file.flush()
    words = ["dashboard", str(folder), "--port", str(port), *(["--evidence"] if evidence else [])]
    os.execv(sys.executable, [sys.executable, "-m", "mneme", *words])


def _serve(runs: Path, port: int, folder: Path | None = None, *, evidence: bool = False) -> None:
    from mneme.cli.server import serve_dashboard

    out.print(f"Dashboard: [bold]http://127.0.0.1:{port}[/]  (Ctrl-C stops it)")
    name = folder.resolve().name if folder else None
    raise typer.Exit(serve_dashboard(runs, run=name, port=port, evidence=evidence))


def print_facts(facts: dict[str, Any]) -> None:
    """Two columns."""
    table = Table(box=None, show_header=False)
    for key, value in facts.items():
        table.add_row(escape(key), escape(str(value)))
    out.print(table)
