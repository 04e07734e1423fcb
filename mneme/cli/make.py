"""Commands that make things to compare: tuned models and text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mneme._util.errors import ConfigError
from mneme.cli.common import MAKE, SetOption, TrustOption, app, out

corpus_app = typer.Typer(no_args_is_help=True, help="Make text to compare on.")
app.add_typer(corpus_app, name="corpus", rich_help_panel=MAKE)

Texts = list[str] | None


@app.command(rich_help_panel=MAKE)
def organism(
    method: Annotated[str, typer.Argument(help="rmu, npo, gradient_ascent, ablate or finetune.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Where the tuned model goes.")],
    base: Annotated[str, typer.Option(help="The model to change.")] = "bundled:base",
    forget: Annotated[
        Texts,
        typer.Option(
            help="Text to unlearn, or of the topic that is ablated; FILE::even takes every other text."
        ),
    ] = None,
    retain: Annotated[Texts, typer.Option(help="Text to hold, or of other topics.")] = None,
    learn: Annotated[Texts, typer.Option(help="Text to learn (finetune).")] = None,
    measure: Annotated[
        Path | None, typer.Option(help="MMLU's folder: measure what it did, into outcomes.csv.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")] = None,
    trust: TrustOption = False,
    settings: SetOption = None,
) -> None:
    """Make a tuned model whose change is known: unlearning, ablation or fine-tuning, as a small delta."""
    from mneme._util.console import RichProgress
    from mneme._util.settings import from_mapping, parse_override, suggest
    from mneme.organisms import METHODS, make_organism, measure_organism

    if method not in METHODS:
        raise ConfigError(f"unknown method {method}: {suggest(method, METHODS)}")
    values = {}
    for text in settings or []:
        keys, value = parse_override(text)
        if len(keys) != 1:
            raise ConfigError(f"--set {text}: settings of a method have no section, e.g. --set steps=200")
        values[keys[0]] = value
    config: Any = from_mapping(METHODS[method].config, values, "")
    progress = RichProgress(out)
    made = make_organism(
        method,
        base,
        out=folder,
        forget=forget or (),
        retain=retain or (),
        learn=learn or (),
        config=config,
        seed=seed,
        trust_remote_code=trust,
        progress=progress,
    )
    if measure is not None:
        measure_organism(made, measure, trust_remote_code=trust, progress=progress)
    out.print(f"Made {escape(str(made))}: compare with [bold]mneme run --tuned {escape(str(made))}[/]")


@corpus_app.command("sample")
def corpus_sample(
    file: Annotated[Path, typer.Option("--out", "-o", help="A .jsonl.zst file.")],
    model: Annotated[str, typer.Option(help="The model that writes.")] = "bundled:base",
    topics: Annotated[
        Path | None, typer.Option(help="A TOML file of areas and topics. [default: the bundled one]")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="About how many tokens.")] = 108_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    trust: TrustOption = False,
) -> None:
    """Let a model write the text to compare on: no data set needed."""
    from mneme._util.console import RichProgress
    from mneme.corpus.sample import SampleConfig, sample_corpus
    from mneme.models import data_folder, load_model, load_tokenizer

    made = sample_corpus(
        load_model(model, trust_remote_code=trust),
        load_tokenizer(model, trust_remote_code=trust),
        topics or data_folder() / "corpus" / "topics.toml",
        file,
        SampleConfig(n_tokens=tokens, seed=seed),
        RichProgress(out),
    )
    out.print(f"Made {escape(str(made))}: compare on it with [bold]--corpus {escape(str(made))}[/]")
