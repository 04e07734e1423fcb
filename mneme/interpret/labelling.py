"""The stage: labels of every live latent, and how well they tell where it fires.

contexts -> offline labels ----+-> scores
        +-> a model's labels --+        (of the most changed latents)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts
from mneme.interpret.corpus_words import Words, read_words
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.explainers.enrichment import gather_evidence
from mneme.interpret.explainers.explain import LabelRun
from mneme.interpret.explainers.names import most_changed
from mneme.interpret.explainers.offline import offline_labels
from mneme.interpret.explainers.overlap import label_overlap
from mneme.interpret.label_config import LabelConfig
from mneme.interpret.scorers.score_labels import Judge, Judging, Scene, score_labels
from mneme.interpret.selection import Codes
from mneme.interpret.tokens import TokenTexts

_NO_FAILURES = pd.DataFrame({"latent": np.zeros(0, np.int32), "method": [], "reason": []}).astype(
    {"method": str, "reason": str}
)


class Labels(NamedTuple):
    """Frames with the columns of the run's tables of these names."""

    labels: pd.DataFrame
    failures: pd.DataFrame
    """latent, method, reason: labels that were asked of a model and did not come."""
    overlap: float
    """Share of latents whose labels from either half of the documents agree; NaN where not measured."""
    scores: dict[str, pd.DataFrame]
    """Rows of label_scores, label_examples, label_windows and label_summary; no frames where nothing was scored."""


class Found(NamedTuple):
    """What the interpretation found."""

    contexts: Contexts
    lens: pd.DataFrame
    """Columns latent, model, token: the tokens each decoder promotes most, strongest first."""
    neighbours: pd.DataFrame
    """Columns latent, kind, rank, neighbour, for hard negatives."""
    config: InterpretConfig
    """The settings it was found with."""


class Asked(NamedTuple):
    """What language models are asked."""

    explained: Sequence[LabelRun] = ()
    """Their labels."""
    judge: Judge | None = None
    """Judges all labels of the same latents."""


def label_latents(
    found: Found,
    codes: Codes,
    cache: Texts,
    texts: TokenTexts,
    latents: pd.DataFrame,
    config: LabelConfig,
    *,
    asked: Asked | None = None,
    encoder: SentenceEncoder | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Labels:
    """Label every live latent and score the labels.

    `latents`: the attribution's frame: its flags tell position-bound and dense latents apart, its verdicts and
    severities which labels are scored first. `asked`: what language models say.
    """
    contexts, lens, neighbours, interpret = found
    explained, judge = asked or Asked()
    words = read_words(cache, contexts.document, texts, interpret.window)
    labels = label_offline(contexts, words, lens, latents)
    labels = pd.concat([labels, *(run.labels for run in explained)], ignore_index=True)
    failures = pd.concat([_NO_FAILURES, *(run.failures for run in explained)], ignore_index=True)
    overlap, graded = float("nan"), {}
    if config.score_labels and len(labels):  # all latents dead: no label, and nothing to score
        encoder = encoder or SentenceEncoder()
        with progress.task("label overlap", total=None):
            overlap = label_overlap(
                contexts,
                # without what the decoder promotes, which is the same for both halves
                lambda half: offline_labels(gather_evidence(half, words, len(latents)), {}),
                encoder.embed,
                seed=interpret.seed,
            )
        graded = score_labels(
            labels,
            Scene(contexts, neighbours, codes, cache, words),
            encoder,
            interpret,
            first=most_changed(latents, len(latents)),
            most=config.score_windows,
            judging=Judging(judge, np.unique(np.concatenate([run.labels.latent for run in explained])))
            if judge is not None and explained
            else None,
            progress=progress,
        )._asdict()
        labels = graded.pop("labels")
        failures = pd.concat([failures, graded.pop("failures")], ignore_index=True)
    return Labels(labels, failures, overlap, graded)


def label_offline(
    contexts: Contexts, words: Words, lens: pd.DataFrame, latents: pd.DataFrame
) -> pd.DataFrame:
    """Offline labels; what a latent says is read from the decoder with the larger norm, its main probe."""
    stronger = latents.set_index("latent").probe
    top = lens[lens.model.to_numpy() == stronger.reindex(lens.latent).to_numpy()]
    says = {int(j): tokens.tolist() for j, tokens in top.groupby("latent").token}
    return offline_labels(gather_evidence(contexts, words, len(latents)), says, latents)
