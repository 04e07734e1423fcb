"""Commands that make things to compare: tuned models and text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mneme._util.errors import ConfigError
from mneme.cli.common import MAKE, SetOption, TrustOption, app, out
from mneme.corpus.styles import STYLES

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
    taxonomy: Annotated[
        str, typer.Option(help="The categories to write for: default, mmlu, mmlu_pro, harm, or a TOML file.")
    ] = "default",
    styles: Annotated[
        str, typer.Option(help="Styles of text, with commas: prose, questions, exam, dialogue.")
    ] = ",".join(STYLES),
    documents: Annotated[int, typer.Option(min=1, help="Documents per category, over all styles.")] = 16,
    category: Annotated[
        list[str] | None, typer.Option(help="Only these categories, for example those with too little text.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling.")] = 0,
    trust: TrustOption = False,
) -> None:
    """Let a model write the text to compare on: no data set needed."""
    from mneme._util.console import RichProgress
    from mneme.corpus.sample import SampleConfig, sample_corpus
    from mneme.effects.categories import load_taxonomy
    from mneme.effects.on_topic import OnTopic
    from mneme.interpret.encoder import SentenceEncoder
    from mneme.models import load_model, load_tokenizer

    wanted = load_taxonomy(taxonomy)
    wanted.check_names("--category", category or ())
    made = sample_corpus(
        load_model(model, trust_remote_code=trust),
        load_tokenizer(model, trust_remote_code=trust),
        [area for area in wanted.areas() if not category or area.key in category],
        file,
        SampleConfig(n_documents=documents, styles=tuple(s.strip() for s in styles.split(",")), seed=seed),
        OnTopic(SentenceEncoder(), wanted),
        RichProgress(out),
    )
    out.print(f"Made {escape(str(made))}: compare on it with [bold]--corpus {escape(str(made))}[/]")
