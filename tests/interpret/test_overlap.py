"""Label overlap: labels made from either half of the documents, against chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mneme.interpret.contexts import Contexts
from mneme.interpret.explainers.overlap import agreement, label_overlap

LATENTS = 60


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def contexts() -> Contexts:
    """Each latent has one context in each of documents 0 .. 5; documents 4 and 5 are held out."""
    latent, document = (grid.ravel() for grid in np.meshgrid(np.arange(LATENTS), np.arange(6), indexing="ij"))
    n = len(latent)
    zeros = np.zeros(n, dtype=np.int64)
    tokens = np.zeros((n, 1), dtype=np.int32)
    return Contexts(
        latent, zeros, zeros, document >= 4, zeros, document, zeros, zeros, zeros + 1,
        tokens, tokens.astype(np.float32), tokens.astype(np.int64), np.bincount(latent),
    )  # fmt: skip


def embed(texts: list[str]) -> np.ndarray:
    """A direction a text, the same for the same text."""
    seeds = [int(text) for text in texts]
    return unit(np.stack([np.random.default_rng(s).normal(size=32) for s in seeds]))


def labeller(seen: list[set[int]], *, by_document: bool):
    def label(half: Contexts) -> pd.DataFrame:
        seen.append(set(half.document.tolist()))
        latents = np.unique(half.latent)
        salt = 1000 * int(half.document.min()) if by_document else 0
        return pd.DataFrame({"latent": latents, "label": [str(j + salt) for j in latents]})

    return label


def test_labels_that_depend_on_the_latent_alone_agree_and_halves_share_no_document() -> None:
    seen: list[set[int]] = []
    assert label_overlap(contexts(), labeller(seen, by_document=False), embed) == 1.0
    assert seen == [{0, 2}, {1, 3}]


def test_labels_that_tell_nothing_of_the_latent_agree_by_chance_alone() -> None:
    shares = [
        agreement(unit(rng.normal(size=(200, 16))), unit(rng.normal(size=(200, 16))), rng)
        for rng in map(np.random.default_rng, range(20))
    ]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)
    assert label_overlap(contexts(), labeller([], by_document=True), embed) < 0.3


def test_too_few_latents_tell_nothing() -> None:
    few = contexts().take(np.flatnonzero(contexts().latent < 19))
    assert np.isnan(label_overlap(few, labeller([], by_document=False), embed))
