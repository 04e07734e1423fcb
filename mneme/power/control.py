"""The positive control: displacements of stated sizes, and whether the run's own calls would have told of them.

Half of a category's documents are displaced (drawn anew for each case), in most cases along the decoder of a latent,
drawn by how much it writes on that text, in the others along a random direction outside the span of the decoders that
write most there. Sizes are shares of the base's typical deviation from its mean.

    latents        along decoders: found where latents that the displacement makes amplified or suppressed affect the
                   category: the interval of that share lies above `effects.min_affected_share`. Latents that
                   were called before don't count. Outside their span it is tried at the margin only
                   (`Power.outside`): a dictionary that was trained on the displaced activations would have a
                   latent for it, which this one can't
    activations    all directions: found where the interval of the category's mean |x_tuned - x_base| lies above what
                   most categories show without any displacement
    nll            not injected: from the interval of the category's mean NLL change (behaviour.py)

How much more text would do is computed from the same injections: with twice as many documents of the same kind all sums
over documents double, the dictionary stays, and the affected share's interval shrinks by the root of two
(`text_needed`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.vocabulary import CHANGED, LITTLE_TEXT
from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.stream import evidence_documents
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.codes import CodeCache
from mneme.effects.config import EffectsConfig
from mneme.effects.predict import amount_of_text, mean_over_documents, measure_behaviour
from mneme.effects.side_effects import Assigned
from mneme.harvest.protocols import Activations
from mneme.power.behaviour import nll_rows
from mneme.power.calls import caller
from mneme.power.category import Category, Control, Settings, choose, row
from mneme.power.inject import Dictionary
from mneme.power.summary import COLUMNS, TEXTS, with_overall
from mneme.power.sums import KeptSums, keep_sums

COMPETING = "with crosscoder.variant = topk latents compete, a few can't be read alone"
READS_EACH = "a read-out dictionary (crosscoder.variant = base or tuned) isn't injected into yet"


class Power(NamedTuple):
    """What the positive control found."""

    table: pd.DataFrame
    """Table `power`."""
    outside: float
    """Share of displacements of the margin's size outside the decoders' span that latents tell of; NaN without any."""


def measure_power(
    crosscoder: Crosscoder,
    cache: Activations,
    codes: CodeCache,
    latents: pd.DataFrame,
    assigned: Assigned,
    effects: EffectsConfig,
    attribution: AttributionConfig,
    margin: float,
    settings: Settings | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Power:
    """Every category's channels, and over all of them.

    cache, codes: ActivationCache and its CodeCache; latents: columns latent, verdict, turn_p of its table; assigned:
    the run's text assigned to categories; margin: the displacement that is asked for, a share of typical.
    """
    settings = settings or Settings()
    windows, weights, keys = assigned.windows, assigned.weights, assigned.taxonomy.keys
    rng = np.random.default_rng(settings.seed)
    enough = amount_of_text(weights, windows)["documents"].to_numpy() >= effects.min_documents
    chosen = [choose(weights[:, c], windows, settings.rows, rng) for c in range(len(keys))]
    tried = [fine and len(one.row) > 0 for fine, one in zip(enough, chosen, strict=True)]
    used = [np.zeros(0, np.int64), *(one.document for one, yes in zip(chosen, tried, strict=True) if yes)]
    geometry = make_geometry(crosscoder, attribution.redirected_cosine, attribution.redirected_norm)
    kept = keep_sums(
        geometry,
        cache,
        codes,
        windows,
        np.unique(np.concatenate(used)),
        evidence_documents(crosscoder, cache),
        progress,
    )
    latents = latents.sort_values("latent")
    verdict = latents["verdict"].to_numpy()
    tested = latents["q_value"].notna().to_numpy() if "q_value" in latents else None
    turn_p = latents["turn_p"].dropna().to_numpy(float) if "turn_p" in latents else None
    called = np.isin(verdict, CHANGED)
    control = Control(
        Dictionary(crosscoder, geometry),
        cache,
        kept,
        windows,
        {text: caller(kept.moments, called, attribution, text, turn_p, tested) for text in (1.0, *TEXTS)},
        effects,
        settings,
        margin,
        _background(kept, assigned, effects),
    )
    rows: list[dict[str, Any]] = []
    outside: list[float] = []
    untried = (
        READS_EACH
        if crosscoder.read_model is not None
        else COMPETING
        if crosscoder.config.variant == "topk"
        else None
    )
    # thousands of small products: threads only wait for each other, and sums would depend on how many there are
    with progress.task("power: injections", len(keys), "categories") as task, threadpool_limits(1):
        for c, key in enumerate(keys):
            if not tried[c]:
                rows += [
                    row(key, name, margin) | {"reason": LITTLE_TEXT} for name in ("latents", "activations")
                ]
            else:
                category = Category(control, key, weights[:, c], chosen[c], rng)
                if untried is not None:
                    rows.append(row(key, "latents", margin) | {"at_margin": None, "reason": untried})
                else:
                    rows.append(category.through_latents())
                    outside.append(category.outside_found())
                rows.append(category.plainly())
            task.advance()
    behaviour = measure_behaviour(cache, windows, weights, effects)
    known = np.isfinite(behaviour.nll_change.value)
    told = enough & (~known | (behaviour.documents >= effects.min_documents))
    injected = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(
        "channel", kind="stable", ascending=False
    )
    table = pd.concat(
        [one.astype(object) for one in (injected, nll_rows(keys, behaviour.nll_change, told, effects))]
    )
    share = float(np.mean(outside)) if outside else float("nan")
    return Power(with_overall(table.reset_index(drop=True)), share)


def _background(kept: KeptSums, assigned: Assigned, config: EffectsConfig) -> float:
    """The mean |x_tuned - x_base| of a category that most stay under without an injection, a share of typical.

    The 95% point of a normal with the median and the median absolute deviation of all categories.
    """
    moved = kept.difference_norm / max(kept.typical, 1e-30)
    rows = assigned.windows.n_rows.astype(np.float64)
    value = mean_over_documents(assigned.weights, assigned.windows, moved, rows, config).value
    value = value[np.isfinite(value)]
    if not len(value):
        return float("nan")
    middle = float(np.median(value))
    return middle + 1.645 * 1.4826 * float(np.median(np.abs(value - middle)))
