"""Latents' scaling, evidence and verdicts, and the health of the dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


_SPLICED = 512  # tokens both models read again with the reconstruction in place of the residual stream


def attribution_stage(context: RunContext) -> StageResult:
    """Every latent's scaling, evidence and verdict; the codes of all tokens into `codes/`."""
    from mneme.attribution.health import attribution_health
    from mneme.attribution.layer_health import layer_health
    from mneme.attribution.splice import splice_health
    from mneme.attribution.stream import attribute
    from mneme.crosscoder.codes import CodeCache

    found = attribute(
        context.crosscoder,
        context.cache,
        context.folder / "codes",
        context.config.attribution,
        context.progress,
    )
    health = [
        attribution_health(
            found,
            context.cache,
            context.crosscoder.config.k,
            context.crosscoder,
            context.config.load_crosscoder is not None,
            CodeCache(context.folder / "codes"),
        )
    ]
    if (layer := layer_health(context.cache)) is not None:
        health.append(layer)
    if not context.remote:  # a server runs models as they are; the reconstruction isn't spliced in there
        spliced = splice_health(
            context.pair,
            context.crosscoder,
            context.cache,
            context.config.harvest,
            max_tokens=_SPLICED,
            progress=context.progress,
        )
        health.append(spliced)
    return StageResult(
        {
            "latents": found.latents,
            "betas": found.betas,
            "activation_histogram": found.activation_histogram,
        },
        health=pd.concat(health, ignore_index=True),
    )


STAGE = Stage(
    "attribution",
    attribution_stage,
    ("attribution",),
    (
        *("latents", "betas", "activation_histogram", "health"),
        *("read_outs", "read_out_latents", "read_out_contexts"),  # `mneme read-out`
    ),
    ("codes/index.json",),
    rooms=("codes",),
    revision=6,
)
