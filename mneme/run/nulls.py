"""`mneme null`: pairs without a change through a finished run's machinery: how often is a change called all the same?

Written to the run. Dictionaries that are trained for it are kept, so a check that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.protocols import Activations
from mneme.run.context import RunContext
from mneme.run.finished import finished_context, kept_crosscoder, tell_findings
from mneme.store.queries.quality import health_values
from mneme.store.writing import writing

if TYPE_CHECKING:
    from mneme.crosscoder import Crosscoder


class Nulls(NamedTuple):
    """What null pairs say."""

    table: pd.DataFrame
    """The run's table `nulls`."""
    margin: float
    """On the log ratio, natural log; the run's own where that is enough."""
    min_affected_share: float
    """For categories; the run's own where that is enough."""


def run_nulls(
    folder: str | Path, *, benign: Sequence[str | Path] = (), progress: Progress = NULL_PROGRESS
) -> Nulls:
    """How often a change is called where there is none, written to the run, and the thresholds that this asks for.

    Nulls: the base against itself, rounded, with a dictionary trained on that pair; the run's document sums with
    base and tuned swapped at random; and each run of `benign` (two tunes that should not differ, say two seeds
    of one benign fine-tune, already analysed). Raises RunError for a folder that is no finished run.
    """
    from mneme.attribution.nulls import calibrated, null_row, rounding_null, shuffled_null
    from mneme.attribution.stream import attribute
    from mneme.effects.predict import whole_behaviour
    from mneme.run.post_label_health import null_health

    context, run = finished_context(folder, progress)
    others = [finished_context(other, progress)[0] for other in benign]
    config, effects = context.config.attribution, context.config.effects
    common = health_values(run).get("common_scale", 0.0)
    reference = float(np.log(common)) if common > 0 else 0.0

    def row(kind: str, crosscoder: Crosscoder, cache: Activations, text: RunContext) -> pd.DataFrame:
        found = attribute(crosscoder, cache, None, config, progress)
        return null_row(kind, found, config).assign(
            **_affected(context, crosscoder, cache, found.latents, text)
        )

    def tuned(other: RunContext) -> pd.DataFrame:
        whole = whole_behaviour(other.cache, effects)
        made = row(f"benign: {other.folder.name}", other.crosscoder, other.cache, other)
        return made.assign(kl=whole.kl, nll_change=whole.nll_change[0])

    with writing(context.folder):
        rounded = rounding_null(context.cache)
        fit = kept_crosscoder(context, "checks/null-rounded", context.config.crosscoder, rounded)
        rows = [
            row("base against itself, rounded", fit, rounded, context),
            shuffled_null(context.crosscoder, context.cache, config, reference),
            *(tuned(other) for other in others),
        ]
        table = pd.concat(rows, ignore_index=True)
        margin = calibrated(table["margin"], config.margin)
        least = effects.min_affected_share
        share = calibrated(table["affected_share"], least) if "affected_share" in table else least
        with run.stage_writer() as writer:
            writer.replace("nulls", table)
            rate = float(table["rate"].max())
            writer.upsert(
                "health", null_health(rate, (margin, config.margin), (share, effects.min_affected_share))
            )
        tell_findings(run)
    return Nulls(table, margin, share)


def _affected(
    context: RunContext, crosscoder: Crosscoder, cache: Activations, latents: pd.DataFrame, text: RunContext
) -> dict[str, Any]:
    """Columns of `nulls` about the run's categories on the text of `text`; none where the run has no effects."""
    from mneme.effects.null_affected_share import null_affected_share
    from mneme.effects.side_effects import assign_text

    if context.run.finished("effects") is None:
        return {}
    config = context.config.effects
    assigned = assign_text(
        text.cache, lambda ids: str(text.tokenizer.decode(ids)), context.encoder, config, context.progress
    )
    return null_affected_share(crosscoder, cache, latents, assigned, config, context.progress)._asdict()
