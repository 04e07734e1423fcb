"""The stage: contexts, logit lens, neighbours, map, labels and their scores, from what is on disk.

codes + activations' index -> contexts ----+-> offline labels -> scores
decoders + heads -> logit lens, map        |        (LLM labels for the most changed)
decoders + codes -> neighbours
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from transformers import PreTrainedTokenizerBase

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Activations, Contexts, contexts_table, find_contexts
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.labels.enrichment import gather_evidence
from mneme.interpret.labels.llm import LabelRun, Server, choose_server, label_with_model, most_changed
from mneme.interpret.labels.offline import offline_labels
from mneme.interpret.labels.overlap import label_overlap
from mneme.interpret.labels.prompt import make_question
from mneme.interpret.lens import logit_lens, reading_head
from mneme.interpret.neighbours import nearest_latents
from mneme.interpret.projection import project_latents
from mneme.interpret.scoring import Exam, content, score_labels, set_exam
from mneme.interpret.selection import Codes
from mneme.interpret.tokens import TokenTexts
from mneme.interpret.words import Words, read_words
from mneme.progress import NULL_PROGRESS, Progress


class Interpretation(NamedTuple):
    """Frames with the columns of the run's tables of these names."""

    contexts: pa.Table
    logit_lens: pa.Table
    neighbours: pd.DataFrame
    labels: pd.DataFrame
    umap: pd.DataFrame
    """latent, umap_x, umap_y: columns of `latents`."""
    failures: pd.DataFrame
    """latent, method, reason: labels that were asked of a model and did not come."""
    label_overlap: float
    """Share of latents whose labels from either half of the documents agree; NaN where not measured."""


def interpret(
    decoders: torch.Tensor,
    codes: Codes,
    cache: Activations,
    models: tuple[Any, Any],
    tokenizer: PreTrainedTokenizerBase,
    config: InterpretConfig,
    *,
    latents: pd.DataFrame | None = None,
    encoder: SentenceEncoder | None = None,
    label_folder: Path | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Interpretation:
    """Interpret every live latent.

    `decoders` (2, F, d): the crosscoder's `raw_decoder()`. `models`: base and tuned, transformers models.
    `latents`: the attribution's frame: its flags tell position-bound and dense latents apart, its verdicts
    and severities which latents a language model is asked about. `label_folder`: where paid answers are kept;
    without it, no model is asked.

    Raises LabelError when the settings demand a labelling model and the environment names none.
    """
    server = choose_server(config) if label_folder is not None and latents is not None else None
    decoders = decoders.detach()
    texts = TokenTexts(tokenizer)
    contexts = find_contexts(codes, cache, decoders.shape[1], config, progress)
    live = np.flatnonzero(contexts.n_active)
    heads = [reading_head(model) for model in models]
    lens = logit_lens(decoders, heads, live, texts, n_tokens=config.lens_tokens, progress=progress)
    del heads
    neighbours = nearest_latents(decoders, codes, contexts.n_active, n=config.neighbours, progress=progress)
    umap = project_latents(
        decoders, live, neighbours=config.map_neighbours, seed=config.seed, progress=progress
    )
    words = read_words(cache, contexts.document, texts, config.window)
    labels = label_offline(contexts, words, lens, decoders, latents)
    failures = pd.DataFrame({"latent": [], "method": [], "reason": []})
    if server is not None and label_folder is not None and latents is not None:
        chosen = most_changed(latents, config.llm_max_latents)
        asked = ask_model(contexts, texts, lens, chosen, server, label_folder, config, progress)
        labels, failures = pd.concat([labels, asked.labels], ignore_index=True), asked.failures
    overlap = float("nan")
    if config.score_labels:
        encoder = encoder or SentenceEncoder()
        with progress.task("label overlap", total=None):
            overlap = label_overlap(
                contexts,
                # without what the decoder promotes, which is the same for both halves
                lambda half: offline_labels(gather_evidence(half, words, decoders.shape[1]), {}),
                encoder.embed,
                seed=config.seed,
            )
        exam = set_exam(contexts, codes, (cache.document, cache.position), words, encoder, config, progress)
        labels = with_scores(labels, exam, encoder, config, progress)
    return Interpretation(
        contexts_table(contexts, cache, texts), lens, neighbours, labels, umap, failures, overlap
    )


def label_offline(
    contexts: Contexts, words: Words, lens: pa.Table, decoders: torch.Tensor, latents: pd.DataFrame | None
) -> pd.DataFrame:
    """Offline labels; what a latent says is read from the decoder with the larger norm."""
    top = lens.to_pandas()
    stronger = np.where(decoders.norm(dim=-1).argmax(0).cpu().numpy() == 0, "base", "tuned")
    top = top[(top.direction == "top") & (top.model.to_numpy() == stronger[top.latent])]
    says = {int(j): tokens.tolist() for j, tokens in top.groupby("latent").token}
    return offline_labels(gather_evidence(contexts, words, decoders.shape[1]), says, latents)


def ask_model(
    contexts: Contexts,
    texts: TokenTexts,
    lens: pa.Table,
    latents: np.ndarray,
    server: Server,
    folder: Path,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
) -> LabelRun:
    """Labels of some latents by a language model, in this order."""
    top = lens.to_pandas()
    top = top[(top.direction == "top") & top.latent.isin(latents) & (top.model != "difference")]
    promotes: dict[int, dict[str, list[str]]] = {}
    for (latent, model), tokens in top.groupby(["latent", "model"]).token:
        promotes.setdefault(int(latent), {})[str(model)] = tokens.tolist()
    found = [make_question(int(j), contexts, texts, promotes.get(int(j), {})) for j in latents]
    return label_with_model(
        [question for question in found if question is not None],
        server,
        folder,
        concurrency=config.llm_concurrency,
        max_tokens=config.llm_max_tokens,
        progress=progress,
    )


def with_scores(
    labels: pd.DataFrame,
    exam: Exam,
    encoder: SentenceEncoder,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """The labels, with columns score and score_shuffled."""
    with progress.task("score labels", total=len(labels), unit="labels") as task:
        texts = [content(label) for label in labels.label]
        latents = labels.latent.to_numpy(np.int64)
        scores = score_labels(exam, latents, texts, encoder.embed(texts), seed=config.seed)
        task.advance(len(labels))
    return labels.reset_index(drop=True).assign(
        score=scores.score.to_numpy(), score_shuffled=scores.score_shuffled.to_numpy()
    )
