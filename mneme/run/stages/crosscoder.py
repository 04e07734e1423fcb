"""The dictionary, trained or loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def crosscoder_stage(context: RunContext) -> StageResult:
    """The dictionary, trained or loaded, into `crosscoder/`."""
    from mneme.crosscoder import Crosscoder, train_crosscoder
    from mneme.crosscoder.checkpoint import delete_checkpoint
    from mneme.crosscoder.imported import fit_imported

    config = context.config
    rows: list[dict[str, float]] = []
    checkpoint = context.folder / "checkpoint"
    if config.load_crosscoder is not None:
        crosscoder = Crosscoder.from_pretrained(config.load_crosscoder, context.cache.width)
        if not crosscoder.has_normaliser:
            with context.progress.task("imported crosscoder", total=None) as task:
                task.note(
                    fit_imported(crosscoder, context.cache, config.crosscoder.imported_scale).sentence()
                )
    else:
        crosscoder = train_crosscoder(
            context.cache,
            config.crosscoder,
            checkpoint=checkpoint,
            progress=context.progress,
            log=rows.append,
        )
    crosscoder.save_pretrained(context.folder / "crosscoder")
    delete_checkpoint(checkpoint)
    context.crosscoder = crosscoder
    info = {
        "latents": crosscoder.n_latents,
        "k": crosscoder.config.k,
        "variant": crosscoder.config.variant,
    }
    return StageResult({"training": pd.DataFrame(rows)} if rows else {}, info=info)


STAGE = Stage(
    "crosscoder",
    crosscoder_stage,
    ("crosscoder", "load_crosscoder"),
    ("training", "nulls"),  # nulls: `mneme null`; those of another dictionary say nothing
    ("crosscoder/model.safetensors",),
    rooms=("crosscoder",),
)
