"""Whether sampled text is about its category: garbled text is left out of a corpus by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mneme.effects.assign import Encoder, category_vectors
from mneme.effects.categories import Taxonomy

NEAREST = 0.06
"""A text is on topic where its category is among this share of those nearest to it: close relatives may be nearer."""


class OnTopic:
    """`sample_corpus`'s `fits`, by the sentence encoder."""

    def __init__(self, encoder: Encoder, taxonomy: Taxonomy) -> None:
        self.encoder = encoder
        self.vectors = category_vectors(encoder, taxonomy)  # (C, e)
        self.column = {key: number for number, key in enumerate(taxonomy.keys)}

    def __call__(self, texts: Sequence[str], areas: Sequence[str]) -> list[bool]:
        """Of n texts and the keys of their categories: whether few categories are nearer to each."""
        similarity = self.encoder.embed(list(texts)) @ self.vectors.T  # (n, C)
        own = similarity[np.arange(len(texts)), [self.column[area] for area in areas]]
        nearer = (similarity > own[:, None]).sum(1)
        return [bool(n < max(1, NEAREST * len(self.vectors))) for n in nearer]
