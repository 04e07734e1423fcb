"""A small world for the effects stage: an encoder that counts words, documents, activations and codes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mneme.crosscoder.codes import CodeCache, SparseCodes
from mneme.effects.config import EffectsConfig
from mneme.effects.side_effects import Effects, Known, assign_text, predict_effects

TOML = """
title = "two areas"

[cells]
name = "Cells"
group = "biology"
domain = "STEM"
description = "cell gene virus"

[money]
name = "Money"
group = "economics"
domain = "social sciences"
description = "price bank market"
"""

WORDS = ["cell", "gene", "virus", "price", "bank", "market", "zzz"]
WIDTH, LATENTS = 6, 8


class WordEncoder:
    """Bag of words, each word a random direction of its own."""

    def embed(self, texts):
        out = np.zeros((len(texts), 2048), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
                out[row] += np.random.default_rng(seed).normal(size=2048)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def decode(ids):
    return " ".join(WORDS[i] for i in ids)


class World(SimpleNamespace):
    """documents of 24 tokens, the first of each left out; even ones about cells, odd ones about money.

    Latent 0 fires on cells and is amplified, 1 fires on money and is unchanged, 2 is amplified and fires
    nowhere, the others fire at random and are unchanged. NLL rises by 2 nats on cells, and activations move by 3 along
    the decoder of latent 0, which says between 1 and 3.
    """

    @classmethod
    def make(cls, folder: Path, n_documents: int = 24, seed: int = 0) -> World:
        rng = np.random.default_rng(seed)
        tokens = [rng.integers(0, 3, 24) + 3 * (i % 2) for i in range(n_documents)]
        document = np.repeat(np.arange(n_documents), 23)
        position = np.tile(np.arange(1, 24), n_documents)
        n = len(document)
        about_cells = document % 2 == 0
        dense = np.zeros((n, LATENTS), dtype=np.float32)
        dense[about_cells, 0] = rng.uniform(1, 3, about_cells.sum())
        dense[~about_cells, 1] = rng.uniform(1, 3, (~about_cells).sum())
        dense[:, 3:] = rng.uniform(0, 1, (n, LATENTS - 3)) * (rng.uniform(size=(n, LATENTS - 3)) < 0.3)
        x = rng.normal(size=(n, 2, WIDTH)).astype(np.float32)
        x[:, 1] = x[:, 0]
        x[about_cells, 1, 0] += 3
        write_codes(folder, dense)
        axes = torch.nn.functional.normalize(
            torch.randn(LATENTS, WIDTH, generator=torch.Generator().manual_seed(0)), dim=-1
        )
        axes[0] = torch.eye(WIDTH)[0]
        longer = torch.ones(LATENTS, 1)
        longer[[0, 2]] = 2
        nll = np.full(n, 3.0, dtype=np.float32)
        cache = SimpleNamespace(
            n=n,
            width=WIDTH,
            n_documents=n_documents,
            topics=[None] * n_documents,
            document=document.astype(np.int32),
            position=position.astype(np.int32),
            document_tokens=lambda d: tokens[d],
            kl=np.where(about_cells, 1.0, 0.01).astype(np.float32),
            nll_base=nll,
            nll_tuned=nll + np.where(about_cells, 2.0, 0.0).astype(np.float32),
            batches=lambda size: iter(torch.from_numpy(x).split(size)),
            read=lambda start, stop: torch.from_numpy(x)[start:stop],
        )
        return cls(
            cache=cache,
            dense=dense,
            x=x,
            codes=folder,
            latents=latents(),
            decoder=torch.stack([axes, axes * longer]),
            about_cells=about_cells,
        )


def predict(world: World, config: EffectsConfig, **more: Any) -> Effects:
    """`more`: members of `Known`."""
    encoder = WordEncoder()
    assigned = assign_text(world.cache, decode, encoder, config)
    return predict_effects(
        world.cache, world.codes, world.latents, world.decoder, assigned, encoder, config, Known(**more)
    )


def latents() -> pd.DataFrame:
    """As attribution would fill them."""
    frame = pd.DataFrame({"latent": np.arange(LATENTS), "norm_base": 1.0, "norm_tuned": 1.0})
    frame = frame.assign(
        decoder_cosine=1.0,
        probe="tuned",
        beta_base=1.0,
        beta_tuned=1.0,
        log_ratio=0.0,
        verdict="unchanged",
        turned=False,
        dead=False,
    )
    frame.loc[[0, 2], ["norm_tuned", "beta_base", "log_ratio", "verdict"]] = [2.0, 0.5, 0.69, "amplified"]
    return frame


def write_codes(folder: Path, dense: np.ndarray, batch: int = 50) -> None:
    cache = CodeCache(folder)
    cache.start()
    for start in range(0, len(dense), batch):
        part = torch.from_numpy(dense[start : start + batch])
        row, latent = part.nonzero(as_tuple=True)
        cache.write(SparseCodes(row, latent, part[row, latent]), len(part))
    cache.finish(dense.shape[1])
