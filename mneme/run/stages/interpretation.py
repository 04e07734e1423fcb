"""Contexts, logit lens, neighbours and map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def interpretation_stage(context: RunContext) -> StageResult:
    """Contexts, logit lens, neighbours and map."""
    from mneme.crosscoder import CodeCache
    from mneme.interpret import interpret

    found = interpret(
        context.crosscoder.raw_decoder(),
        CodeCache(context.folder / "codes"),
        context.cache,
        context.models,
        context.tokenizer,
        context.config.interpret,
        progress=context.progress,
    )
    tables = {"contexts": found.contexts, "logit_lens": found.logit_lens, "neighbours": found.neighbours}
    return StageResult(tables, latent_columns=found.umap)


STAGE = Stage(
    "interpretation",
    interpretation_stage,
    ("interpret",),
    ("contexts", "logit_lens", "neighbours", "causal", "causal_ablations"),  # causal: `mneme causal`
    revision=4,
)
