"""Findings: sets of changed latents that do one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme.run.stage import Stage, StageResult
from mneme.store.queries import tables

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def findings_stage(context: RunContext) -> StageResult:
    """The changed latents grouped, each group measured and named."""
    from mneme.crosscoder import CodeCache
    from mneme.findings.find import Reader, find_findings
    from mneme.interpret.tokens import TokenTexts
    from mneme.run.power import text_of

    found = find_findings(
        context.cache,
        CodeCache(context.folder / "codes"),
        tables.latents(context.run),
        context.crosscoder.raw_decoder(),
        text_of(context),
        Reader(
            context.models,
            TokenTexts(context.tokenizer),
            context.config.interpret,
            lambda contexts, lens: _explained(context, contexts, lens),
        ),
        context.config.effects,
        context.progress,
    )
    return StageResult(found._asdict())


def _explained(context: RunContext, contexts: pd.DataFrame, lens: pd.DataFrame) -> list[pd.DataFrame]:
    """What the run's first labelling model calls the findings, within a budget like that of the latents' labels."""
    from mneme.interpret.explainers.explain import explain_all
    from mneme.interpret.explainers.names import explainer_names
    from mneme.interpret.explainers.prompt import make_prompts

    config = context.config.labels
    if not (names := explainer_names(config)[:1]):
        return []
    top = lens[lens["direction"] == "top"]
    numbers = sorted(contexts["latent"].unique().tolist())
    prompts = make_prompts(numbers, contexts, top, examples=config.prompt_contexts)
    return [
        run.labels for run in explain_all(names, prompts, config, context.folder / "labels", context.progress)
    ]


STAGE = Stage(
    "findings",
    findings_stage,
    ("effects",),
    (
        "findings",
        "finding_latents",
        "finding_categories",
        "finding_contexts",
        "finding_lens",
        "causal_findings",  # `mneme causal`
    ),
)
