"""Documents cut into windows of text, each of which is assigned to categories as one piece.

A document may wander over several subjects, and a sentence encoder reads a few hundred tokens at most; so the
unit is a window of about a hundred tokens. Every harvested row (token) belongs to exactly one window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme.harvest.protocols import Texts


class Windows(NamedTuple):
    """W windows over N rows."""

    row_window: np.ndarray
    """(N,) int64: the window of each row."""
    document: np.ndarray
    """(W,) int64, ascending."""
    n_rows: np.ndarray
    """(W,) int64: rows in each window; may be 0."""
    texts: list[str]
    """W texts."""


def cut_windows(cache: Texts, decode: Callable[[np.ndarray], str], size: int) -> Windows:
    """Windows of `size` tokens over an ActivationCache's documents; a tail under half joins the one before.

    decode: token ids (T,) -> text.
    """
    texts: list[str] = []
    owner: list[int] = []
    first = np.zeros(cache.n_documents, dtype=np.int64)  # each document's first window
    count = np.ones(cache.n_documents, dtype=np.int64)  # and how many it has
    for document in range(cache.n_documents):
        tokens = cache.document_tokens(document)
        n = max(1, (len(tokens) + size // 2) // size)
        first[document], count[document] = len(texts), n
        for i in range(n):
            stop = (i + 1) * size if i < n - 1 else len(tokens)
            texts.append(decode(tokens[i * size : stop]))
        owner += [document] * n
    rows = cache.document.astype(np.int64)
    row_window = first[rows] + np.minimum(cache.position.astype(np.int64) // size, count[rows] - 1)
    n_rows = np.bincount(row_window, minlength=len(texts))
    return Windows(row_window, np.asarray(owner, dtype=np.int64), n_rows, texts)


def per_document(weights: np.ndarray, document: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """(D, C): sum over a document's windows of weight x value. weights (W, C), document and values (W,)."""
    n = int(document.max(initial=-1)) + 1
    add = sparse.csr_array((values, (document, np.arange(len(document)))), shape=(n, len(document)))
    return sparse.csr_array(add @ sparse.csr_array(weights.astype(np.float64)))
