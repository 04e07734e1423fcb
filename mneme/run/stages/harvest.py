"""Both models read the corpus: their activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.context import TOKENIZER
from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def harvest_stage(context: RunContext) -> StageResult:
    """Both models' activations on the corpus, into `activations/`."""
    from mneme.harvest import harvest
    from mneme.harvest.layer import check_streams

    folder = context.folder / "activations"
    cache = harvest(
        context.pair,
        context.corpus,
        context.config.harvest,
        folder,
        context.progress,
        context.plan,
        profile=True,
    )
    check_streams(cache)
    if context.in_memory:
        context.tokenizer.save_pretrained(context.folder / TOKENIZER)
    with context.progress.task("layer", total=None) as task:
        task.note(f"{cache.layer} of {cache.n_layers} is read: {cache.layer_why}")
    context.cache = cache
    info = {
        "name": context.folder.resolve().name,
        "base": context.config.base,
        "tuned": context.config.tuned,
        "layer": cache.layer,
        "layer_why": cache.layer_why,
        "n_layers": cache.n_layers,
        "width": cache.width,
        "corpus": context.corpus.source,
        "text_left_out": context.corpus.left_out,
        "n_documents": cache.n_documents,
        "n_tokens": cache.n,
        "n_skipped_bos": cache.n_skipped_bos,
        "n_skipped_sinks": cache.n_skipped_sinks,
    }
    tables = {"documents": cache.documents()}
    if (profile := cache.layer_profile()) is not None:
        tables["layer_profile"] = profile
    return StageResult(tables, info=info)


STAGE = Stage(
    "harvest",
    harvest_stage,
    ("harvest",),
    ("documents", "layer_profile"),
    ("activations/index.json",),
    rooms=("activations",),
)
