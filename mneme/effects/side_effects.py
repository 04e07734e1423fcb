"""The effects stage, whole: text and latents to categories, prediction, baselines, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from mneme._util.errors import ActivationError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache
from mneme.effects.assign import (
    Encoder,
    Weights,
    category_vectors,
    home_groups,
    latent_weights,
    long_form,
    text_weights,
    with_known_topics,
)
from mneme.effects.baselines import baseline_frame, baseline_steps
from mneme.effects.categories import Taxonomy, load_taxonomy
from mneme.effects.config import EffectsConfig
from mneme.effects.evaluate import evaluate
from mneme.effects.explained import directions, hold_windows, share_explained
from mneme.effects.outcome_kinds import primary
from mneme.effects.predict import (
    amount_of_text,
    changed_steps,
    group_parts,
    measure_behaviour,
    predict,
    top_latents,
    whole_behaviour,
)
from mneme.effects.sums import sum_activations, sum_codes
from mneme.effects.windows import Windows, cut_windows
from mneme.harvest.protocols import Harvested, TopicalTexts
from mneme.interpret.scorers.text_fit import content

_BATCH = 512  # windows embedded between two steps of the bar


class Effects(NamedTuple):
    """Data frames with the columns of the run's tables of the same names."""

    categories: pd.DataFrame
    document_categories: pd.DataFrame
    latent_categories: pd.DataFrame
    effects: pd.DataFrame
    effect_latents: pd.DataFrame
    effect_groups: pd.DataFrame
    baselines: pd.DataFrame
    evaluation: pd.DataFrame
    """Empty without outcomes."""


class Known(NamedTuple):
    """What is known beside the activations, where it is."""

    labels: pd.DataFrame | None = None
    """Columns latent, label; the first row of a latent counts."""
    named: Mapping[int, np.ndarray] | None = None
    """Latent -> (C,) weights that a labelling model gave its label (llm_assignment.py)."""
    outcomes: pd.DataFrame | None = None
    """Columns of table `outcomes`, to evaluate against."""


def predict_effects(
    cache: Harvested,
    codes: CodeCache | str | Path,
    latents: pd.DataFrame,
    decoder: torch.Tensor,
    assigned: Assigned,
    encoder: Encoder,
    config: EffectsConfig | None = None,
    known: Known | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Effects:
    """Say which categories the changed latents belong to, and how much each moved.

    cache: ActivationCache; codes: its CodeCache; latents: a row per latent, columns of table `latents` as
    attribution fills them; decoder: (2, F, d), raw units; assigned: what `assign_text` gives of the cache's text.

    Raises ActivationError when cache, codes and latents don't fit together.
    """
    config, known = config or EffectsConfig(), known or Known()
    codes = codes if isinstance(codes, CodeCache) else CodeCache(codes)
    latents = latents.sort_values("latent").reset_index(drop=True)
    if not np.array_equal(latents["latent"], np.arange(codes.n_latents)):
        raise ActivationError(
            f"{len(latents)} latents, codes of {codes.n_latents}: delete the codes and run it again"
        )

    taxonomy, vectors, windows, weights, shares = assigned
    keys = taxonomy.keys

    steps = changed_steps(latents)
    others = baseline_steps(latents, steps.sum(0), config)
    both = np.concatenate([weights, shares], axis=1)
    sums = sum_codes(codes, windows, both, np.stack([*steps, *others.values()]), progress)
    activations = sum_activations(cache, windows, progress)
    behaviour = measure_behaviour(cache, windows, weights, config)
    common = whole_behaviour(cache, config).common

    held = hold_windows(cache, codes, windows, directions(latents, steps.sum(0), decoder), progress)

    effects = predict(
        keys, windows, weights, sums, held.confirmed, activations.typical, behaviour, config, common
    )
    effects["explained"] = share_explained(weights, held)
    moved = dict(zip(others, sums.moved[2:], strict=True))
    baselines = baseline_frame(keys, windows, weights, behaviour, activations, moved)
    tokens = weights.T.astype(np.float64) @ windows.n_rows
    prior = shares.T.astype(np.float64) @ windows.n_rows / cache.n
    firing, firing_shares = np.split(sums.firing, 2)
    members = _latent_categories(vectors, encoder, firing_shares, sums.total, prior, known, config)
    amount = amount_of_text(weights, windows)
    return Effects(
        categories=taxonomy.frame().join(amount[["n_tokens", "n_documents"]]),
        document_categories=_document_categories(shares, windows.document, windows.n_rows, keys),
        latent_categories=long_form(members, keys, "latent"),
        effects=effects,
        effect_latents=top_latents(
            keys, firing, steps.sum(0), tokens, activations.typical, config.top_latents
        ),
        effect_groups=group_parts(
            keys, firing, steps.sum(0), tokens, activations.typical, home_groups(members, taxonomy)
        ),
        baselines=baselines,
        evaluation=evaluate(
            effects, baselines, _no_outcomes() if known.outcomes is None else primary(known.outcomes), config
        ),
    )


class Assigned(NamedTuple):
    """A run's text assigned to its categories."""

    taxonomy: Taxonomy
    vectors: np.ndarray
    """(C, e): the categories' vectors."""
    windows: Windows
    weights: np.ndarray
    """(W, C): membership (assign.py)."""
    shares: np.ndarray
    """(W, C)."""


def assign_text(
    cache: TopicalTexts,
    decode: Callable[[np.ndarray], str],
    encoder: Encoder,
    config: EffectsConfig,
    progress: Progress = NULL_PROGRESS,
) -> Assigned:
    """Cut a cache's text into windows and assign them to the categories: by topic where that is a category's key,
    else by the sentence encoder. Raises ConfigError for a bad taxonomy."""
    taxonomy = load_taxonomy(config.taxonomy)
    vectors = category_vectors(encoder, taxonomy)
    windows = cut_windows(cache, decode, config.window)
    by_encoder = _embed_windows(encoder, vectors, windows.texts, config, progress)
    topics = [cache.topics[document] for document in windows.document]
    weights = with_known_topics(by_encoder, topics, taxonomy.keys)
    return Assigned(taxonomy, vectors, windows, weights.membership, weights.share)


def _embed_windows(
    encoder: Encoder, vectors: np.ndarray, texts: list[str], config: EffectsConfig, progress: Progress
) -> Weights:
    """(W, C) each."""
    parts = []
    with progress.task("categories: text", len(texts), "windows") as task:
        for start in range(0, len(texts), _BATCH):
            some = texts[start : start + _BATCH]
            parts.append(text_weights(encoder, vectors, some, config))
            task.advance(len(some))
    return Weights(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))


def _document_categories(
    weights: np.ndarray, document: np.ndarray, n_rows: np.ndarray, keys: list[str]
) -> pd.DataFrame:
    """Each document's categories: the mean of its windows, weighted by their rows."""
    documents, local = np.unique(document, return_inverse=True)
    size = np.maximum(np.bincount(local, weights=n_rows), 1)
    table = np.zeros((len(documents), weights.shape[1]))
    np.add.at(table, local, weights * n_rows[:, None])
    return long_form(table / size[:, None], keys, "document")


def _latent_categories(
    vectors: np.ndarray,
    encoder: Encoder,
    firing: np.ndarray,
    total: np.ndarray,
    prior: np.ndarray,
    known: Known,
    config: EffectsConfig,
) -> np.ndarray:
    """(F, C) weights, from firing (latent_weights) and labels, which the encoder or a model assigns to categories."""
    shape = (len(total), len(vectors))
    from_labels, has_label = np.zeros(shape, dtype=np.float32), np.zeros(shape[0], dtype=bool)
    labels = known.labels
    if labels is not None and len(labels) and config.label_weight > 0:
        first = labels.dropna(subset=["label"]).drop_duplicates("latent")
        rows = first["latent"].to_numpy()
        from_labels[rows] = text_weights(
            encoder, vectors, [content(label) for label in first["label"]], config
        ).share
        has_label[rows] = True
        for latent, weights in (known.named or {}).items():
            both = config.assign == "both"
            from_labels[latent] = (from_labels[latent] + weights) / 2 if both else weights
    return latent_weights(firing, total, prior, from_labels, has_label, config)


def _no_outcomes() -> pd.DataFrame:
    return pd.DataFrame({"category": pd.Series(dtype=object), "change": pd.Series(dtype=float)})
