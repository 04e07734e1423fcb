"""Text and latents assigned to categories, many to many, with a rest that is "no category".

    windows of text --sentence encoder--> cosine to each category --> memberships and shares (W, C)
    documents: the mean of their windows' shares
    latents:   where they fire beyond what the corpus would give, mixed with what their label says

A category's vector is the mean of its description's and its examples' vectors. A text's nearest category has
membership 1 and those nearly as near have nearly as much, so that a category with close relatives (college
and school biology) keeps its text: effects are means over members. Shares divide a text among categories
instead. Both are scaled by how much the nearest category is like the text at all. Nothing here has seen a
benchmark.

Where the corpus says that a document is about a category (its topic is the category's key), that is taken
instead: `with_known_topics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from mneme.effects.categories import Taxonomy
from mneme.effects.config import EffectsConfig

NO_GROUP = "no one subject"
_HOME = 0.1  # a smaller weight in its best group is no home


class Encoder(Protocol):
    """What is needed of mneme.interpret.encoder.SentenceEncoder."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, e) float32, l2-normalised."""


def category_vectors(encoder: Encoder, taxonomy: Taxonomy) -> np.ndarray:
    """(C, e) float32, l2-normalised: the mean over each category's texts."""
    texts = [text for category in taxonomy.categories for text in category.texts]
    owner = np.repeat(np.arange(len(taxonomy.categories)), [len(c.texts) for c in taxonomy.categories])
    embedded = encoder.embed(texts)
    vectors = np.zeros((len(taxonomy.categories), embedded.shape[1]), dtype=np.float32)
    np.add.at(vectors, owner, embedded)
    found: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return found


class Weights(NamedTuple):
    """Texts assigned to categories: (n, C) float32 each, in [0, 1]; values under min_weight are 0."""

    membership: np.ndarray
    """exp((s - max s) / T) x likeness."""
    share: np.ndarray
    """softmax(s / T) x likeness: rows sum to <= 1, the rest is "no category"."""


def soft_weights(similarity: np.ndarray, config: EffectsConfig) -> Weights:
    """Weights from (n, C) cosines s; likeness = sigmoid((max s - min_similarity) / T), T the temperature."""
    scaled = similarity.astype(np.float64) / config.temperature
    top = scaled.max(1, keepdims=True)
    likeness = 1 / (1 + np.exp(np.clip(config.min_similarity / config.temperature - top, -50, 50)))
    near = np.exp(scaled - top)
    return Weights(
        *(
            np.where(w < config.min_weight, 0, w).astype(np.float32)
            for w in (near * likeness, near / near.sum(1, keepdims=True) * likeness)
        )
    )


def text_weights(
    encoder: Encoder, vectors: np.ndarray, texts: Sequence[str], config: EffectsConfig
) -> Weights:
    """Weights of n texts; an empty text belongs to no category."""
    weights = Weights(*np.zeros((2, len(texts), len(vectors)), dtype=np.float32))
    filled = [i for i, text in enumerate(texts) if text.strip()]
    if filled:
        found = soft_weights(encoder.embed([texts[i] for i in filled]) @ vectors.T, config)
        weights.membership[filled], weights.share[filled] = found
    return weights


def with_known_topics(weights: Weights, topics: Sequence[str | None], keys: Sequence[str]) -> Weights:
    """The weights (n, C) of n texts, with what their corpus says of them in place of what the encoder does.

    topics: n, what each text is about: the key of a category, or None. A category that a topic names has that text
    whole and no other with a known category; the rest of the categories keep the encoder's memberships, which a text
    of a known category has beside it, and no share of it. Texts without a topic keep the encoder's weights.

    Topics count only where all of them are keys: those of a corpus with topics of its own, of which some are called
    like a category by chance, mean something else.
    """
    column = {key: number for number, key in enumerate(keys)}
    if not all(topic in column for topic in topics if topic):
        return weights
    own = np.array([column.get(topic or "", -1) for topic in topics], dtype=np.int64)
    known = np.flatnonzero(own >= 0)
    if not len(known):
        return weights
    membership, share = weights.membership.copy(), weights.share.copy()
    membership[np.ix_(known, np.unique(own[known]))] = 0
    share[known] = 0
    membership[known, own[known]] = share[known, own[known]] = 1
    return Weights(membership, share)


def latent_weights(
    firing: np.ndarray,
    total: np.ndarray,
    prior: np.ndarray,
    label_weights: np.ndarray,
    has_label: np.ndarray,
    config: EffectsConfig,
) -> np.ndarray:
    """(F, C) weights, rows sum to <= 1: near 0 for a latent that fires like the corpus as a whole.

    firing: (C, F), activation x share of each category. total: (F,), activation in all text. prior: (C,), each
    category's share of the corpus. label_weights: (F, C), rows used where has_label (F,) is true.
    """
    share = np.divide(firing.T, total[:, None], out=np.zeros(firing.T.shape), where=total[:, None] > 0)
    excess = np.maximum(share - prior, 0)
    excess[total <= 0] = 0
    mix = np.where(has_label, config.label_weight, 0.0)[:, None]
    weights: np.ndarray = (1 - mix) * excess + mix * label_weights
    # A latent's largest category is named however small: its weight says how little that means.
    small = weights < config.min_weight
    small[np.arange(len(weights)), weights.argmax(1)] = False
    weights[small] = 0
    return weights


def home_groups(weights: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """(F,) names: the group of categories that each latent, (F, C) weights, belongs to most, or NO_GROUP."""
    names, of = np.unique([category.group for category in taxonomy.categories], return_inverse=True)
    sums = np.zeros((len(weights), len(names)))
    np.add.at(sums.T, of, weights.T)
    home: np.ndarray = np.where(sums.max(1) >= _HOME, names[sums.argmax(1)], NO_GROUP)
    return home


def long_form(weights: np.ndarray, keys: Sequence[str], row_name: str) -> pd.DataFrame:
    """(n, C) weights -> columns row_name, category, weight; zeros left out."""
    rows, columns = np.nonzero(weights)
    return pd.DataFrame(
        {
            row_name: rows.astype(np.int64),
            "category": np.asarray(keys, dtype=object)[columns],
            "weight": weights[rows, columns].astype(np.float64),
        }
    )
