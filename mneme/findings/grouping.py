"""Which changed latents do one thing: their predicted changes point one way at the same tokens.

A changed latent j says that the tuned model differs from the base by f_j v_j (mneme/effects/explained.py), a field
over tokens. Two such fields have the inner product

    G_jk = sum over tokens of f_j f_k  x  v_j . v_k

so that G_jk / sqrt(G_jj G_kk) is the cosine of the directions times the cosine of the firings. A set's field is the sum
of its members', its inner products sums of G. Starting from single latents, the two sets whose fields have the largest
correlation are merged until none reaches THRESHOLD: agglomerative clustering whose linkage is the correlation of the
sums. Small correlations of many members with each other add up, where averages over pairs would not.

What was tried beside it, and how THRESHOLD was set on planted groups: docs/decisions/findings.md.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 0.12
"""Correlation of two sets' predicted changes from which they are one finding; and of a latent's with another finding's,
once all are merged, from which it belongs to that one too."""

TOGETHER = 0.2
"""Correlation of the firings of two parts of a finding from which they are one part."""


def gram(co_firing: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(K, K): inner products of the latents' predicted changes, raw units squared.

    co_firing: (K, K), sums over tokens of f_j f_k; vectors: (K, d), v_j.
    """
    found: np.ndarray = co_firing * (vectors @ vectors.T)
    return found


def merged(products: np.ndarray, threshold: float = THRESHOLD, *, least: int = 1) -> np.ndarray:
    """(K,) int64: the set of each, numbered from 0 in the order of their first members.

    products: (K, K) inner products of fields (`gram`; of firings alone, `co_firing`). Merging stops at `least` sets.
    A field of length 0 stays alone.
    """
    n = len(products)
    inner = products.astype(np.float64)
    home = np.arange(n)
    length = np.sqrt(np.maximum(np.diag(inner), 0))
    correlation = _over(inner, np.outer(length, length))
    np.fill_diagonal(correlation, -np.inf)
    for _ in range(n - max(least, 1)):
        i, j = divmod(int(correlation.argmax()), n)
        if not correlation[i, j] >= threshold:
            break
        inner[i] += inner[j]
        inner[:, i] += inner[:, j]
        home[home == home[j]] = home[i]
        length[i] = np.sqrt(max(inner[i, i], 0))
        correlation[j] = correlation[:, j] = -np.inf
        left = np.isfinite(correlation[i])
        left[i] = False
        correlation[i, left] = correlation[left, i] = _over(inner[i, left], length[i] * length[left])
    _, first, number = np.unique(home, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    found: np.ndarray = order[number]
    return found


def belonging(products: np.ndarray, home: np.ndarray) -> np.ndarray:
    """(K, S): correlation of each latent's predicted change with that of each set, itself left out.

    0 with a set of which it is the only member. home: (K,) set of each latent, from 0.
    """
    n_sets = int(home.max(initial=-1)) + 1
    member = np.zeros((len(home), n_sets))
    member[np.arange(len(home)), home] = 1
    onto = products @ member  # <c_j, D'_s>
    own = np.diag(products)
    square = np.broadcast_to((member * onto).sum(0), onto.shape).copy()  # |D'_s|^2
    rows = np.arange(len(home))
    square[rows, home] += own - 2 * onto[rows, home]  # |D'_s - c_j|^2
    onto[rows, home] -= own
    return _over(onto, np.sqrt(np.maximum(own, 0))[:, None] * np.sqrt(np.maximum(square, 0)))


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, 0 where whole is 0."""
    found: np.ndarray = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return found
