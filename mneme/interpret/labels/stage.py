"""The stage: labels of every live latent, and how well they tell where it fires.

contexts -> offline labels ----+-> scores
        +-> a model's labels --+        (of the most changed latents)
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Activations, Contexts
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.labels.asking import Budget
from mneme.interpret.labels.chat import Chat, has_server, server_chat
from mneme.interpret.labels.config import LabelConfig
from mneme.interpret.labels.enrichment import gather_evidence
from mneme.interpret.labels.explain import LabelRun, explain, most_changed
from mneme.interpret.labels.offline import offline_labels
from mneme.interpret.labels.overlap import label_overlap
from mneme.interpret.labels.prompt import make_question
from mneme.interpret.scores.grade import grade_labels
from mneme.interpret.selection import Codes
from mneme.interpret.tokens import TokenTexts
from mneme.interpret.words import Words, read_words
from mneme.progress import NULL_PROGRESS, Progress


class Labels(NamedTuple):
    """Frames with the columns of the run's tables of these names."""

    labels: pd.DataFrame
    failures: pd.DataFrame
    """latent, method, reason: labels that were asked of a model and did not come."""
    overlap: float
    """Share of latents whose labels from either half of the documents agree; NaN where not measured."""
    scores: dict[str, pd.DataFrame]
    """Rows of label_scores, label_examples, label_windows and label_summary; none where nothing was scored."""


def label_latents(
    contexts: Contexts,
    lens: pd.DataFrame,
    neighbours: pd.DataFrame,
    codes: Codes,
    cache: Activations,
    texts: TokenTexts,
    latents: pd.DataFrame,
    config: LabelConfig,
    *,
    interpret: InterpretConfig | None = None,
    folder: Path | None = None,
    encoder: SentenceEncoder | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Labels:
    """Label every live latent and score the labels.

    `lens`: columns latent, model, token, the tokens each decoder promotes most, strongest first. `neighbours`: columns
    latent, kind, rank, neighbour, for hard negatives. `latents`: the attribution's frame: its flags tell position-bound
    and dense latents apart, its verdicts and severities which latents a language model is asked about. `interpret`: the
    settings that the contexts were found with. `folder`: where paid answers are kept; without it, no model is asked.

    Raises LabelError when the settings demand a labelling model and the environment names none.
    """
    interpret = interpret or InterpretConfig()
    chat = choose_chat(config) if folder is not None else None
    words = read_words(cache, contexts.document, texts, interpret.window)
    labels = label_offline(contexts, words, lens, latents)
    failures = pd.DataFrame({"latent": [], "method": [], "reason": []})
    if chat is not None and folder is not None:
        chosen = most_changed(latents, config.llm_max_latents)
        asked = ask_model(contexts, texts, lens, chosen, chat, folder, config, progress)
        labels, failures = pd.concat([labels, asked.labels], ignore_index=True), asked.failures
    overlap, graded = float("nan"), {}
    if config.score_labels:
        encoder = encoder or SentenceEncoder()
        with progress.task("label overlap", total=None):
            overlap = label_overlap(
                contexts,
                # without what the decoder promotes, which is the same for both halves
                lambda half: offline_labels(gather_evidence(half, words, len(latents)), {}),
                encoder.embed,
                seed=interpret.seed,
            )
        graded = grade_labels(
            labels,
            contexts,
            neighbours,
            codes,
            cache,
            words,
            encoder,
            interpret,
            first=most_changed(latents, len(latents)),
            most=config.score_windows,
            progress=progress,
        )._asdict()
        labels = graded.pop("labels")
        failures = pd.concat([failures, graded.pop("failures")], ignore_index=True)
    return Labels(labels, failures, overlap, graded)


def choose_chat(config: LabelConfig) -> Chat | None:
    """The model that explains, by the settings. Raises LabelError where one is demanded and none can be had."""
    if config.llm == "off" or (config.llm == "auto" and not has_server()):
        return None
    return server_chat(timeout=config.llm_timeout)


def label_offline(
    contexts: Contexts, words: Words, lens: pd.DataFrame, latents: pd.DataFrame
) -> pd.DataFrame:
    """Offline labels; what a latent says is read from the decoder with the larger norm, its main probe."""
    stronger = latents.set_index("latent").probe
    top = lens[lens.model.to_numpy() == stronger.reindex(lens.latent).to_numpy()]
    says = {int(j): tokens.tolist() for j, tokens in top.groupby("latent").token}
    return offline_labels(gather_evidence(contexts, words, len(latents)), says, latents)


def ask_model(
    contexts: Contexts,
    texts: TokenTexts,
    lens: pd.DataFrame,
    latents: np.ndarray,
    chat: Chat,
    folder: Path,
    config: LabelConfig,
    progress: Progress = NULL_PROGRESS,
) -> LabelRun:
    """Labels of some latents by a language model, in this order."""
    top = lens[lens.latent.isin(latents) & (lens.model != "difference")]
    promotes: dict[int, dict[str, list[str]]] = {}
    for latent, model, token in zip(top.latent.tolist(), top.model, top.token, strict=True):
        promotes.setdefault(latent, {}).setdefault(model, []).append(token)
    found = {int(j): make_question(int(j), contexts, texts, promotes.get(int(j), {})) for j in latents}
    return explain(
        {latent: prompt for latent, prompt in found.items() if prompt is not None},
        chat,
        folder,
        budget=Budget(config.llm_max_tokens),
        concurrency=config.llm_concurrency,
        progress=progress,
    )
