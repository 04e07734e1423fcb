"""Categories, predicted effects, baselines, measured outcomes, and the positive control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme._util.files import sha256
from mneme.run.stage import Stage, StageResult
from mneme.store.queries import tables

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def effects_stage(context: RunContext) -> StageResult:
    """Categories, predicted effects, baselines, measured outcomes and how well the predictions match the outcomes."""
    from mneme.crosscoder import CodeCache
    from mneme.effects.llm_assignment import named_categories
    from mneme.effects.predict import whole_behaviour
    from mneme.effects.side_effects import Known, predict_effects
    from mneme.harvest.layer import check_streams
    from mneme.run.post_label_health import category_answers_health
    from mneme.run.power import power_health, power_of, text_of
    from mneme.store.queries.latent import telling_labels

    check_streams(context.cache)  # an earlier version's harvest didn't
    latents = tables.latents(context.run)
    labels = telling_labels(context.run)
    outcomes = context.outcomes
    assigned = text_of(context)
    named = named_categories(
        latents,
        labels,
        context.config.effects,
        context.config.labels,
        context.folder / "labels",
        context.progress,
    )
    found = predict_effects(
        context.cache,
        CodeCache(context.folder / "codes"),
        latents,
        context.crosscoder.raw_decoder(),
        assigned,
        context.encoder,
        context.config.effects,
        Known(labels, named.weights if named else None, outcomes),
        context.progress,
    )
    power = power_of(context, latents, assigned)
    written = {**found._asdict(), "power": power.table}
    if outcomes is not None:
        written["outcomes"] = outcomes
    whole = whole_behaviour(context.cache, context.config.effects)
    info = dict(zip(("nll_change", "nll_low", "nll_high"), whole.nll_change, strict=True))
    health = [power_health(power)]
    if named:
        health.append(category_answers_health(named.weights, named.reasons))
    return StageResult(
        written,
        info={**info, "nll_common": whole.common, "mean_kl": whole.kl},
        health=pd.concat(health, ignore_index=True),
    )


STAGE = Stage(
    "effects",
    effects_stage,
    ("effects",),
    (
        "categories",
        "document_categories",
        "latent_categories",
        "effects",
        "effect_latents",
        "effect_groups",
        "baselines",
        "outcomes",
        "evaluation",
        "power",
        "power_retrained",  # `mneme power --retrain`
    ),
    inputs=lambda context: sha256(context.outcomes_file) if context.outcomes_file else "",
    revision=6,
)
