"""`mneme stability`: dictionaries of other seeds: which latents and verdicts of a finished run are found again?

Written to the run. Dictionaries that are trained for it are kept, so a check that was stopped goes on.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme._util.errors import ConfigError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.run.context import RunContext
from mneme.run.finished import finished_context, tell_findings
from mneme.run.seeds import FOLDER, seed_dictionary
from mneme.store.queries import tables
from mneme.store.run import Run
from mneme.store.writing import writing

if TYPE_CHECKING:
    from mneme.crosscoder import Crosscoder


def run_stability(
    folder: str | Path, *, seeds: int = 3, progress: Progress = NULL_PROGRESS
) -> dict[str, float]:
    """Retrain with other seeds, match the latents, and write each one's `stability`; returns the shares found again.

    Keys: `latents` (live ones, mean over seeds), `pw_mcc`, each verdict (that its match has the same one), and, of
    a run with effects, `categories` (of the same verdict, mean over seeds).
    Raises ConfigError for fewer than one seed, RunError for a folder that is no finished run.
    """
    from mneme.attribution.stability import match_latents, pw_mcc, verdict_persistence
    from mneme.attribution.stream import attribute
    from mneme.run.post_label_health import stability_health

    if seeds < 1:
        raise ConfigError("--seeds must be at least 1")
    context, run = finished_context(folder, progress)
    latents = tables.latents(run)
    verdict = latents["verdict"].to_numpy(dtype=object)
    live = verdict != "dead"
    norm = np.hypot(*(latents[name].to_numpy(float) for name in ("norm_base", "norm_tuned")))
    weight = latents["mean_activation"].to_numpy(float) * norm
    persists, mcc, verdicts, categories = [], [], [], []
    with writing(context.folder):
        for seed in range(context.config.crosscoder.seed + 1, context.config.crosscoder.seed + 1 + seeds):
            other = seed_dictionary(context, seed)
            match = match_latents(context.crosscoder, other, live)
            with tempfile.TemporaryDirectory(dir=context.folder / FOLDER) as codes:
                found = attribute(other, context.cache, codes, context.config.attribution, progress)
                if run.finished("effects") is not None:
                    categories.append(_same_categories(context, run, other, codes, found.latents))
            persists.append(match.persists)
            mcc.append(pw_mcc(match, np.where(live, weight, np.nan)))
            other_verdict = found.latents.sort_values("latent")["verdict"].to_numpy(dtype=object)
            verdicts.append(verdict_persistence(verdict, other_verdict, match))
        share = np.mean(persists, axis=0)
        columns = pd.DataFrame({"latent": latents["latent"], "stability": np.where(live, share, np.nan)})
        with run.stage_writer() as writer:
            writer.update_latents(columns)
            shares = [_mean(p[live]) for p in persists]
            writer.upsert("health", stability_health(shares, mcc, categories))
        tell_findings(run)
    by_verdict = {str(word): float(value) for word, value in pd.DataFrame(verdicts).mean().items()}
    told = {"latents": _mean(share[live]), "pw_mcc": _mean(np.array(mcc)), **by_verdict}
    return told | ({"categories": float(np.mean(categories))} if categories else {})


def _mean(values: np.ndarray) -> float:
    """Of what is defined; NaN where nothing is: a run may have no live latent."""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(known.mean()) if len(known) else float("nan")


def _same_categories(
    context: RunContext, run: Run, crosscoder: Crosscoder, codes: str, latents: pd.DataFrame
) -> float:
    """Share of the run's categories that another dictionary of the same activations gives the same verdict."""
    from mneme.crosscoder import CodeCache
    from mneme.effects.side_effects import assign_text, predict_effects

    config = context.config.effects
    assigned = assign_text(
        context.cache,
        lambda ids: str(context.tokenizer.decode(ids)),
        context.encoder,
        config,
        context.progress,
    )
    other = predict_effects(
        context.cache,
        CodeCache(codes),
        latents,
        crosscoder.raw_decoder(),
        assigned,
        context.encoder,
        config,
        progress=context.progress,
    ).effects
    both = run.effects().merge(other, on="category", suffixes=("", "_other"))
    return float((both["verdict"] == both["verdict_other"]).mean())
