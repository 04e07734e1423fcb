"""The stage: contexts, logit lens, neighbours and map, from what is on disk.

codes + activations' index -> contexts
decoders + heads -> logit lens, map
decoders + codes -> neighbours

What latents are called is the next stage's (mneme/interpret/labelling.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from transformers import PreTrainedTokenizerBase

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import contexts_table, find_contexts
from mneme.interpret.head import reading_heads
from mneme.interpret.lens import logit_lens
from mneme.interpret.neighbours import nearest_latents
from mneme.interpret.projection import project_latents
from mneme.interpret.selection import Codes
from mneme.interpret.tokens import TokenTexts


class Interpretation(NamedTuple):
    """Frames with the columns of the run's tables of these names."""

    contexts: pa.Table
    logit_lens: pa.Table
    neighbours: pd.DataFrame
    umap: pd.DataFrame
    """latent, umap_x, umap_y: columns of `latents`."""


def interpret(
    decoders: torch.Tensor,
    codes: Codes,
    cache: Texts,
    models: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    config: InterpretConfig,
    *,
    progress: Progress = NULL_PROGRESS,
) -> Interpretation:
    """Gather what tells the meaning of every live latent.

    `decoders` (2, F, d): the crosscoder's `raw_decoder()`. `models`: base and tuned, transformers models;
    none where their weights are elsewhere: then there is no logit lens, nor where a model's head is no linear map.
    """
    decoders = decoders.detach()
    texts = TokenTexts(tokenizer)
    contexts = find_contexts(codes, cache, decoders.shape[1], config, progress)
    live = np.flatnonzero(contexts.n_active)
    heads = reading_heads(models, progress)
    seen = live if heads else live[:0]
    heads = heads or [decoders.new_zeros(2, decoders.shape[2])] * 2
    lens = logit_lens(decoders, heads, seen, texts, n_tokens=config.lens_tokens, progress=progress)
    del heads
    neighbours = nearest_latents(decoders, codes, contexts.n_active, n=config.neighbours, progress=progress)
    umap = project_latents(
        decoders, live, neighbours=config.map_neighbours, seed=config.seed, progress=progress
    )
    return Interpretation(contexts_table(contexts, cache, texts), lens, neighbours, umap)
