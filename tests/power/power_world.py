"""A planted pair without changes, a dictionary of its own features, and text assigned to categories of unlike size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mneme.attribution.held_activations import MemoryCache
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.config import CrosscoderConfig
from mneme.effects.categories import Category, Taxonomy
from mneme.effects.side_effects import Assigned
from mneme.effects.windows import Windows
from mneme.organisms.planted import PlantedConfig, PlantedPair

N_FEATURES, WIDTH, LENGTH, WINDOW = 48, 32, 32, 16


class Cache(MemoryCache):
    """With the members of an ActivationCache that effects reads."""

    def __init__(self, activations: torch.Tensor, document: np.ndarray, nll_change: np.ndarray) -> None:
        super().__init__(activations, document)
        self.nll_base, self.nll_tuned = np.zeros(self.n, np.float32), nll_change.astype(np.float32)
        self.n_documents = int(self.document.max()) + 1

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.activations[start:stop]

    def displaced(self, row: np.ndarray, vector: np.ndarray) -> Cache:
        """The same with a vector added to the tuned activations of some rows."""
        x = self.activations.clone()
        x[row, 1] += torch.from_numpy(vector).float()
        return Cache(x, self.document, self.nll_tuned)


def make_cache(n_documents: int, seed: int = 0) -> tuple[Cache, Crosscoder]:
    """Fresh tokens of a planted pair in which nothing changed, and a dictionary of its features."""
    config = PlantedConfig(
        n_features=N_FEATURES,
        width=WIDTH,
        document_length=LENGTH,
        grouped_share=0.0,
        rarest=0.02,
        commonest=0.2,
    ).without_changes()
    pair = PlantedPair(config)
    batch = pair.sample(n_documents, seed)
    rng = np.random.default_rng(seed)
    nll = rng.normal(0, 0.1, n_documents)[batch.document] + rng.normal(0, 0.3, len(batch.document))
    cache = Cache(batch.activations, batch.document, nll)
    crosscoder = Crosscoder(CrosscoderConfig(n_latents=N_FEATURES, encoder_dtype="float32"), WIDTH)
    crosscoder.with_normaliser(batch.activations)
    decoder = pair.vectors / crosscoder.scale[:, None, None]
    crosscoder.W_dec.copy_(decoder)
    crosscoder.W_enc.copy_(decoder.transpose(1, 2) / decoder.square().sum((0, 2)))
    crosscoder.b_dec.copy_((pair.means - crosscoder.mean) / crosscoder.scale[:, None])
    crosscoder.b_enc.copy_(-torch.einsum("md,mdf->f", crosscoder.b_dec, crosscoder.W_enc))
    crosscoder.threshold.fill_(0.5 * float(crosscoder.decoder_norms().sum(0).mean()))
    return cache, crosscoder


def lay(cache: Cache, documents: dict[str, Any]) -> Assigned:
    """Every category has the whole of its documents, with weight 1."""
    per = LENGTH // WINDOW
    owner = np.repeat(np.arange(cache.n_documents), per)
    row_window = cache.document.astype(np.int64) * per + cache.position // WINDOW
    windows = Windows(row_window, owner, np.bincount(row_window, minlength=len(owner)), [""] * len(owner))
    weights = np.stack([np.isin(owner, mine) for mine in documents.values()], axis=1).astype(np.float32)
    categories = tuple(Category(key, key, "all", "all", key, ()) for key in documents)
    return Assigned(Taxonomy("test", categories), np.zeros((len(categories), 1)), windows, weights, weights)
