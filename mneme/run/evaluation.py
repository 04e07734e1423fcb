"""`mneme evaluate`: a finished run's prediction against its outcomes, beside every baseline and the oracle.

What costs (a difference-SAE, the benchmark's activations) is kept in RUN/checks/ and RUN/evaluation/, so that
evaluating again is quick and an evaluation that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mneme._util.errors import OutcomesError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.effects.baselines import weighted_mean
from mneme.effects.evaluate import MINIMUM, evaluate
from mneme.effects.expensive_baselines import (
    DifferenceSource,
    mean_by_topic,
    mean_difference_lens,
    moved_by,
    per_window,
    sae_steps,
)
from mneme.effects.outcome_kinds import primary
from mneme.effects.side_effects import Assigned, assign_text
from mneme.effects.sums import ActivationSums, sum_activations
from mneme.run.context import RunContext
from mneme.run.finished import finished_context, tell_findings
from mneme.store.queries import tables
from mneme.store.writing import writing

EXPENSIVE = ("mean_difference_lens", "difference_sae", "oracle")


def evaluate_run(
    folder: str | Path,
    *,
    benchmark: str | Path | None = None,
    per_category: int = 10,
    every: int = 1,
    first: int = 0,
    difference_sae: bool = True,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Table `evaluation` of a finished run with outcomes; also written into the run and its report.

    benchmark: what the oracle reads (see `load_benchmark`), `per_category` items each; None: no oracle. Without
    `difference_sae` that baseline, a training as long as the run's own, is left out.

    Raises RunError for a folder that is no finished run, OutcomesError without outcomes or with a benchmark that can't
    be read.
    """
    context, run = finished_context(folder, progress)
    config = context.config.effects
    effects, outcomes, old = tables.effects(run), primary(tables.outcomes(run)), tables.baselines(run)
    both = len(set(effects["category"]) & set(outcomes["category"]))
    if both < MINIMUM:
        raise OutcomesError(
            f"{context.folder} has {both} categories with an outcome, {MINIMUM} are needed: measure some with"
            f" `mneme measure {context.folder} --benchmark FOLDER`"
        )
    items = _items(benchmark, per_category, every, first)
    with writing(context.folder):
        assigned = assign_text(
            context.cache, lambda ids: str(context.tokenizer.decode(ids)), context.encoder, config, progress
        )
        activations = sum_activations(context.cache, assigned.windows, progress)
        typical = activations.typical if activations.typical > 0 else np.nan
        found = _lens(context, assigned, activations)
        if difference_sae:
            found["difference_sae"] = _difference_sae(context, assigned) / typical
        if items:
            found["oracle"] = _oracle(context, items, assigned.taxonomy.keys, typical)
        rows = [old[~old["method"].isin(EXPENSIVE)]]
        rows += [
            pd.DataFrame({"category": assigned.taxonomy.keys, "method": m, "value": v})
            for m, v in found.items()
        ]
        baselines = pd.concat(rows, ignore_index=True)
        table = evaluate(effects, baselines, outcomes, config)
        with run.stage_writer() as writer:
            writer.replace("baselines", baselines)
            writer.replace("evaluation", table)
        tell_findings(run)
    return table


def _items(benchmark: str | Path | None, per_category: int, every: int, first: int) -> list[Any]:
    from mneme.effects.benchmark import load_benchmark

    if benchmark is None:
        return []
    return load_benchmark(benchmark, per_category=per_category, every=every, first=first)


def _lens(context: RunContext, assigned: Assigned, activations: ActivationSums) -> dict[str, np.ndarray]:
    """Nothing where the models' heads are no linear maps."""
    from mneme.interpret.head import reading_heads
    from mneme.interpret.tokens import TokenTexts

    heads = reading_heads(context.models, context.progress)
    if not heads:
        return {}
    texts = TokenTexts(context.tokenizer)
    value = mean_difference_lens(
        activations, context.cache.n, heads, texts, context.encoder, assigned.vectors
    )
    return {"mean_difference_lens": value}


def _difference_sae(context: RunContext, assigned: Assigned) -> np.ndarray:
    """(C,): raw units per token."""
    from mneme.run.finished import kept_crosscoder

    source = DifferenceSource(context.cache)
    sae = kept_crosscoder(context, "checks/difference-sae", context.config.crosscoder, source)
    rows = moved_by(sae, source, sae_steps(sae), context.progress, "difference-SAE")
    return weighted_mean(assigned.weights, assigned.windows, per_window(rows, assigned.windows))


def _oracle(context: RunContext, items: list[Any], keys: list[str], typical: float) -> np.ndarray:
    """(C,): how much of the benchmark's own text the changed latents affect, an item a window."""
    from mneme.corpus import Corpus, Document
    from mneme.effects.benchmark import item_text
    from mneme.effects.explained import confirmed_rows, directions
    from mneme.effects.predict import changed_steps, saturated
    from mneme.harvest import harvest

    corpus = Corpus.of((Document(item_text(item), item.category) for item in items), "the benchmark")
    settings = dataclasses.replace(context.config.harvest, layer=context.cache.layer, behaviour_share=0.0)
    cache = harvest(
        context.pair, corpus, settings, context.folder / "evaluation" / "oracle", context.progress
    )
    latents = tables.latents(context.run)
    said = directions(latents, changed_steps(latents).sum(0), context.crosscoder.raw_decoder())
    rows = confirmed_rows(context.crosscoder, cache, said, context.progress)
    topics = [str(topic) for topic in cache.documents()["topic"]]
    size = np.bincount(cache.document, minlength=cache.n_documents).astype(np.float64)
    moved = np.bincount(cache.document, weights=rows, minlength=cache.n_documents) / typical
    return mean_by_topic(
        saturated(moved, size, context.config.effects.affected_share_scale), size, topics, keys
    )
