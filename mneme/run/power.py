"""The positive control of a run: in its stage `effects`, and again by `mneme power RUN`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme._util.errors import RunError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.attribution.health_row import health_row
from mneme.effects.config import EffectsConfig
from mneme.power.summary import overall
from mneme.store.queries import tables
from mneme.store.queries.quality import health_values

if TYPE_CHECKING:
    from mneme.effects.side_effects import Assigned
    from mneme.power.control import Power
    from mneme.run.context import RunContext
    from mneme.store.run import Run

_MARGIN = 0.3  # where the splice check was not made: shares of the typical deviation
_MOST = 0.5  # a smaller share of categories with power enough asks for a look


def margin_of(health: Mapping[str, float], config: EffectsConfig, part: float) -> float:
    """Displacement, a share of typical, that applied to `part` of a text raises the whole text's NLL by `nll_margin`.

    From the splice check: what the reconstruction misses is a displacement of known size (sqrt(1 - explained variance)
    of typical), and what it costs was measured; for small displacements the cost grows with the square of the size. It
    is no less than `affected_share_scale`. health: metric -> value; where the check is missing, a fixed size.
    """
    missed, cost = 1 - health.get("explained_variance_base", np.nan), health.get("splice_nll_base", np.nan)
    if not (missed > 0 and cost > 0):
        return max(_MARGIN, config.affected_share_scale)
    return float(max(np.sqrt(missed * config.nll_margin / part / cost), config.affected_share_scale))


def text_of(context: RunContext) -> Assigned:
    """The run's text assigned to its categories."""
    from mneme.effects.side_effects import assign_text

    config = context.config.effects
    return assign_text(
        context.cache,
        lambda ids: str(context.tokenizer.decode(ids)),
        context.encoder,
        config,
        context.progress,
    )


def power_of(context: RunContext, latents: pd.DataFrame, assigned: Assigned) -> Power:
    """The positive control of a run whose attribution is done. latents: its table."""
    from mneme.crosscoder import CodeCache
    from mneme.power.category import PART, Settings
    from mneme.power.control import measure_power

    effects = context.config.effects
    return measure_power(
        context.crosscoder,
        context.cache,
        CodeCache(context.folder / "codes"),
        latents,
        assigned,
        effects,
        context.config.attribution,
        margin_of(health_values(context.run), effects, PART),
        Settings(seed=effects.seed),
        context.progress,
    )


def power_health(power: Power) -> pd.DataFrame:
    """Health rows of the positive control: `power` has a threshold; its parts are listed where they were measured."""
    whole = power.table[power.table["category"].isna()].set_index("channel")
    titles = {
        "latents": "Changes along decoders of the margin's size that latents would tell of",
        "activations": "Changes of the margin's size that activations alone would tell of",
        "nll": "Changes of NLL of the margin's size that the intervals would tell of",
    }
    rows = [
        health_row(
            "power",
            "Categories in which a change of the margin's size would be found",
            overall(power.table)["share"],
            "share of categories",
            "finding nothing says little there: read more text of these categories",
            warn=_MOST,
            low_is_bad=True,
        )
    ]
    for channel, title in titles.items():
        chance = float(whole["at_margin"].get(channel, np.nan))
        rows.append(health_row(f"power_{channel}", title, chance, "share, mean over categories", ""))
    outside = "Changes outside the decoders' span of the margin's size that latents would tell of"
    rows.append(health_row("power_outside", outside, power.outside, "share of injections", ""))
    # what was not measured has no row: the table says why
    return pd.DataFrame([row for row in rows if np.isfinite(row["value"])], columns=list(rows[0]))


def check_ready(run: Run) -> None:
    """Raises RunError where the run lacks what the positive control reads."""
    needed = ("crosscoder/config.json", "codes/index.json")
    if run.finished("effects") is None or not all((run.path / name).exists() for name in needed):
        raise RunError(
            f"{run.path} has no effects, codes or crosscoder: `mneme run {run.path / 'run.toml'} --out {run.path}`"
            " makes them"
        )


def run_power(folder: str | Path, *, progress: Progress = NULL_PROGRESS) -> Run:
    """Measure again what a finished run could have found, into its tables `power` and `health`; returns the run.

    Raises RunError for a folder that is no finished run, or whose activations, codes or crosscoder are gone.
    """
    from mneme.run.finished import finished_context, tell_findings
    from mneme.store.seals import check_seals
    from mneme.store.writing import writing

    context, run = finished_context(folder, progress)
    check_ready(run)
    check_seals(run.path, ["attribution"], progress=progress)
    with writing(run.path):
        latents = tables.latents(run)
        found = power_of(context, latents, text_of(context))
        with run.stage_writer() as writer:
            writer.replace("power", found.table)
            writer.upsert("health", power_health(found))
        tell_findings(run)
    return run
