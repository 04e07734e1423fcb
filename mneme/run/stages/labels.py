"""Labels of the latents, and their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme.interpret.explainers.prompt import prompts_fingerprint
from mneme.run.stage import Stage, StageResult
from mneme.store.queries import tables

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def labels_stage(context: RunContext) -> StageResult:
    """Labels of the latents, from the contexts that the interpretation left, and their scores."""
    from mneme.crosscoder import CodeCache
    from mneme.effects.assign import category_vectors
    from mneme.effects.categories import load_taxonomy
    from mneme.interpret.contexts import read_contexts
    from mneme.interpret.explainers.compare_explainers import compare_explainers
    from mneme.interpret.explainers.explain import explain_all
    from mneme.interpret.explainers.names import explainer_names
    from mneme.interpret.labelling import Asked, Found, label_latents
    from mneme.interpret.scorers.choose import choose_judge
    from mneme.interpret.tokens import TokenTexts
    from mneme.run.label_price import questions
    from mneme.run.post_label_health import (
        label_failures_health,
        label_overlap_health,
        label_scores_health,
    )
    from mneme.store.queries.meaning import found_contexts, near_latents, promoted_tokens

    latents = tables.latents(context.run)
    config = context.config.labels
    names = explainer_names(config)
    prompts = questions(context.run, config) if names else {}
    explained = explain_all(names, prompts, config, context.folder / "labels", context.progress)
    found = label_latents(
        Found(
            read_contexts(
                found_contexts(context.run), context.cache, latents.n_active.fillna(0).to_numpy(dtype="int64")
            ),
            promoted_tokens(context.run),
            near_latents(context.run),
            context.config.interpret,
        ),
        CodeCache(context.folder / "codes"),
        context.cache,
        TokenTexts(context.tokenizer),
        latents,
        config,
        asked=Asked(explained, choose_judge(names, config, context.folder / "labels", context.progress)),
        encoder=context.encoder,
        progress=context.progress,
    )
    written = {"labels": found.labels, "label_failures": found.failures, **found.scores}
    if config.compare:
        compared = compare_explainers(
            found.labels,
            prompts,
            config,
            context.folder / "labels",
            context.encoder.embed,
            category_vectors(context.encoder, load_taxonomy(context.config.effects.taxonomy)),
            seed=context.config.interpret.seed,
        )
        written |= {"label_comparison": compared.methods, "label_agreement": compared.pairs}
    health = [label_failures_health(found.failures), label_overlap_health(found.overlap)]
    if found.scores:
        health.append(label_scores_health(found.labels, found.scores["label_summary"]))
    return StageResult(written, health=pd.concat(health, ignore_index=True))


STAGE = Stage(
    "labels",
    labels_stage,
    ("labels",),
    (
        "labels",
        "label_failures",
        "label_scores",
        "label_examples",
        "label_windows",
        "label_summary",
        "label_comparison",
        "label_agreement",
    ),
    inputs=lambda context: str(prompts_fingerprint()),
    revision=3,
)
