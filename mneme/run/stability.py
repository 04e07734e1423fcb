"""`mneme stability`: what do dictionaries of other seeds, and of other text, find again of a finished run?

Three questions, each of dictionaries with a start of their own (one start for all would make any of them agree):
which latents independent starts find again, which a training on resampled documents finds again, and whether
independent starts tell of the same change. Written to the run. Dictionaries are kept: those of other seeds in
RUN/seeds/SEED/ (seeds.py), those of other text in RUN/checks/; so a check that was stopped goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme._util.errors import ConfigError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.vocabulary import CHANGED, DEAD
from mneme.run.context import RunContext
from mneme.run.finished import finished_context, kept_crosscoder, tell_findings
from mneme.run.seeds import FOLDER, seed_config, seed_dictionary
from mneme.store.queries import tables
from mneme.store.queries.findings import homes
from mneme.store.run import Run
from mneme.store.writing import writing

if TYPE_CHECKING:
    from mneme.attribution.stability import LatentMatch
    from mneme.crosscoder import Crosscoder
    from mneme.effects.change_agreement import ChangeAgreement


@dataclass
class Found:
    """What the other dictionaries gave, one entry each."""

    persists: list[np.ndarray] = field(default_factory=list)
    """(F,) bool, of other seeds."""
    resampled: list[float] = field(default_factory=list)
    """Share of live latents that a dictionary of resampled documents finds again."""
    pw_mcc: list[float] = field(default_factory=list)
    verdicts: list[dict[str, float]] = field(default_factory=list)
    categories: list[float] = field(default_factory=list)
    change: list[ChangeAgreement] = field(default_factory=list)
    findings: list[dict[str, bool]] = field(default_factory=list)
    """Whether each finding is found again, by seed; parts of findings are not looked for."""


def run_stability(
    folder: str | Path, *, seeds: int = 3, resamples: int = 1, progress: Progress = NULL_PROGRESS
) -> dict[str, float]:
    """Retrain with other seeds and on resampled documents, and write what is found again of each latent.

    Columns `n_seeds`, `seeds_found` (of how many it is found in) and `stability` (their share) of the live latents.
    Keys of what comes back, means over dictionaries: `latents` and `changed` (shares of live and of called latents
    that another seed finds again), `resampled` (of live ones, on resampled documents), `overlap` and `r2` (of the
    predicted change; change_agreement.py), `pw_mcc`, each verdict (that its match has the same one), and, of a
    run with effects, `categories` (of the same verdict).
    Raises ConfigError for fewer than one seed, RunError for a folder that is no finished run.
    """
    from mneme.run.post_label_health import stability_health

    if seeds < 1:
        raise ConfigError("--seeds must be at least 1")
    if resamples < 0:
        raise ConfigError("--resamples must be at least 0")
    context, run = finished_context(folder, progress)
    latents = tables.latents(run)
    live = (latents["verdict"] != DEAD).to_numpy()
    found = Found()
    own = context.config.crosscoder.seed
    with writing(context.folder):
        for seed in range(own + 1, own + 1 + seeds):
            _read_seed(found, context, run, latents, seed_dictionary(context, seed))
        for seed in range(own + 1, own + 1 + resamples):
            match = _match(context, _of_other_text(context, seed), live)
            found.resampled.append(_mean(match.persists[live]))
        count = np.sum(found.persists, axis=0)
        of_live = np.where(live, count, np.nan)
        columns = pd.DataFrame(
            {
                "latent": latents["latent"],
                "stability": of_live / seeds,
                "seeds_found": pd.Series(of_live).astype("Int64"),
                "n_seeds": pd.Series(np.where(live, seeds, np.nan)).astype("Int64"),
            }
        )
        called = np.isin(latents["verdict"].to_numpy(dtype=object), CHANGED)
        told = {
            "latents": _mean(count[live] / seeds),
            "changed": _mean(count[called] / seeds),
            "resampled": _mean(np.array(found.resampled)),
            "overlap": _mean(np.array([each.overlap for each in found.change])),
            "r2": _mean(np.array([each.r2 for each in found.change])),
            "pw_mcc": _mean(np.array(found.pw_mcc)),
        }
        if found.categories:
            told["categories"] = _mean(np.array(found.categories))
        with run.stage_writer() as writer:
            writer.update_latents(columns)
            if found.findings:
                writer.update("findings", "finding", _of_findings(found.findings))
            writer.upsert("health", stability_health(told, seeds, resamples))
        tell_findings(run)
    by_verdict = pd.DataFrame(found.verdicts).mean()
    return told | {str(word): float(value) for word, value in by_verdict.items()}


def _read_seed(found: Found, context: RunContext, run: Run, latents: pd.DataFrame, other: Crosscoder) -> None:
    """Add what a dictionary of another seed says."""
    from mneme.attribution.stability import pw_mcc, verdict_persistence
    from mneme.attribution.stream import attribute
    from mneme.crosscoder import CodeCache
    from mneme.effects.change_agreement import change_agreement
    from mneme.effects.explained import directions, directions_of
    from mneme.effects.predict import changed_steps
    from mneme.findings.seeds import found_again

    verdict = latents["verdict"].to_numpy(dtype=object)
    live = verdict != DEAD
    norm = np.hypot(*(latents[name].to_numpy(float) for name in ("norm_base", "norm_tuned")))
    weight = latents["mean_activation"].to_numpy(float) * norm
    match = _match(context, other, live)
    with tempfile.TemporaryDirectory(dir=context.folder / FOLDER) as codes:
        theirs = attribute(
            other, context.cache, codes, context.config.attribution, context.progress
        ).latents.sort_values("latent")
        moved = [
            directions(rows, changed_steps(rows).sum(0), crosscoder.raw_decoder().cpu())
            for rows, crosscoder in ((latents, context.crosscoder), (theirs, other))
        ]
        found.change.append(
            change_agreement(CodeCache(context.folder / "codes"), moved[0], CodeCache(codes), moved[1])
        )
        if run.finished("findings") is not None:
            own = homes(run)
            members = np.array(sorted({j for latents_of in own.values() for j in latents_of}), dtype=np.int64)
            mine = directions_of(latents, members, context.crosscoder.raw_decoder().cpu())
            codes_of_run = CodeCache(context.folder / "codes")
            found.findings.append(
                found_again(context.cache, own, codes_of_run, mine, CodeCache(codes), moved[1])
            )
        if run.finished("effects") is not None:
            found.categories.append(_same_categories(context, run, other, codes, theirs))
    found.persists.append(match.persists)
    found.pw_mcc.append(pw_mcc(match, np.where(live, weight, np.nan)))
    found.verdicts.append(verdict_persistence(verdict, theirs["verdict"].to_numpy(dtype=object), match))


def _of_findings(again: list[dict[str, bool]]) -> pd.DataFrame:
    """finding, seeds_found, n_seeds."""
    return pd.DataFrame(
        {
            "finding": pd.Series(list(again[0]), dtype=object),
            "seeds_found": pd.Series([sum(each[f] for each in again) for f in again[0]], dtype="Int64"),
            "n_seeds": len(again),
        }
    )


def _of_other_text(context: RunContext, seed: int) -> Crosscoder:
    """A dictionary of the run's documents drawn anew, from a start of its own."""
    from mneme.harvest.chosen_documents import resampled

    config = seed_config(context.config.crosscoder, seed)
    return kept_crosscoder(context, f"checks/resampled-{seed}", config, resampled(context.cache, seed))


def _match(context: RunContext, other: Crosscoder, live: np.ndarray) -> LatentMatch:
    from mneme.attribution.stability import match_latents

    return match_latents(context.crosscoder, other, live)


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
