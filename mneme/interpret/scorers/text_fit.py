"""A reader without a language model: how well a text fits a label.

    fit = cos(label, text) + share of the label's words that stand in the text

The label is read without the words that say how it is meant ("often on:"). The cosine is of sentence embeddings;
words weigh by how rare they are (idf over windows), and those that the corpus doesn't have count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

_MEANT = re.compile(r"\b(often on|(in )?text on|says|before|promotes|first tokens of a text)\b:?")
_WORD = re.compile(r"[^\W_]+|[^\w\s]")
FORM_NAMES = {
    ",": "comma",
    ".": "full stop",
    "": "line break",
    ":": "colon",
    "-": "hyphen",
    "?": "question mark",
}


def content(label: str) -> str:
    """The label without "often on:", "text on" and their like, which are in many labels and tell of none."""
    return " ".join(_MEANT.sub(" ", label).split()) or label


def word_weights(word_id: Mapping[str, int], rarity: np.ndarray, labels: Sequence[str]) -> sparse.csr_matrix:
    """(L, V): each label's words that the corpus has, by rarity (V,), summing to 1."""
    rows, columns, weights = [], [], []
    for row, label in enumerate(labels):
        found = [word_id[w] for w in dict.fromkeys(_WORD.findall(label.lower())) if w in word_id]
        total = float(rarity[found].sum())
        for word in found if total > 0 else ():
            rows.append(row)
            columns.append(word)
            weights.append(rarity[word] / total)
    return sparse.csr_matrix((weights, (rows, columns)), shape=(len(labels), len(rarity)), dtype=np.float32)


def fit(
    vectors: np.ndarray, wanted: sparse.csr_matrix, windows: np.ndarray, holds: sparse.csr_matrix
) -> np.ndarray:
    """(L, W): how well each window fits each label, from embeddings (L, e), (W, e) and words (L, V), (W, V)."""
    found: np.ndarray = vectors @ windows.T + np.asarray((wanted @ holds.T).todense(), dtype=np.float32)
    return found


def shuffled(n: int, seed: int) -> np.ndarray:
    """A permutation that leaves nothing in its place (for n > 1): a random cycle."""
    order = np.random.default_rng(seed).permutation(n)
    out = np.empty(n, dtype=np.int64)
    out[order] = np.roll(order, 1)
    return out
