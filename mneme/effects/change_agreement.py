"""Do two dictionaries of the same tokens tell of the same change, whatever latents they have?

Each predicts at every token a change D' = sum over changed j of f_j v_j (explained.py). With T (N, K) the activations
of its K changed latents and V (K, d) their directions, all that is asked for comes from the products T'T of both:

    R2        1 - sum |D'_one - D'_other|^2 / sum |D'_one|^2, over tokens
    overlap   mean squared cosine of the subspaces of the r leading directions of each, |U_one' U_other|_F^2 / r, of
              as many directions as hold 90% of sum |D'_one|^2; by chance r / d
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme.crosscoder.codes import CodeCache
from mneme.effects.explained import Directions

HELD = 0.9
"""Share of the change that the compared directions hold."""


class ChangeAgreement(NamedTuple):
    """Of one dictionary's predicted change with another's; NaN where the one predicts none."""

    overlap: float
    """In [0, 1]."""
    r2: float
    """At most 1."""
    n_directions: int
    """r."""


def change_agreement(
    one: CodeCache, moved: Directions, other: CodeCache, other_moved: Directions
) -> ChangeAgreement:
    """One pass over the codes of both, of the same tokens in the same order."""
    within = _products(one, moved, other, other_moved)
    V, W = moved.vector, other_moved.vector
    K = len(V)
    whole = float(np.einsum("ij,id,jd->", within[:K, :K], V, V))
    if whole <= 0:
        return ChangeAgreement(float("nan"), float("nan"), 0)
    shared = float(np.einsum("ij,id,jd->", within[:K, K:], V, W))
    theirs = float(np.einsum("ij,id,jd->", within[K:, K:], W, W))
    U, strength = _axes(within[:K, :K], V)
    held = np.cumsum(strength) / strength.sum()
    r = int(np.searchsorted(held, HELD)) + 1
    mine, others = U[:r], _axes(within[K:, K:], W)[0][:r]
    overlap = float(np.square(mine @ others.T).sum() / r)
    return ChangeAgreement(overlap, (2 * shared - theirs) / whole, r)


def _axes(products: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions (r, d) of sum D' D'^T, largest first, and what each holds; only those that hold any."""
    if not len(vectors):
        return np.zeros((0, vectors.shape[1])), np.zeros(0)
    values, axes = np.linalg.eigh(products)
    root = np.sqrt(np.maximum(values, 0))[:, None] * axes.T
    _, strength, directions = np.linalg.svd(root @ vectors, full_matrices=False)
    some = strength > 1e-9 * max(float(strength[0]), 1e-300)
    return directions[some], strength[some] ** 2


def _products(one: CodeCache, moved: Directions, other: CodeCache, other_moved: Directions) -> np.ndarray:
    """(K + L, K + L): sums over tokens of the products of both dictionaries' changed activations."""
    size = len(moved.latent) + len(other_moved.latent)
    total = np.zeros((size, size))
    mine, theirs = _tables(one, moved.latent), _tables(other, other_moved.latent)
    left, right = next(mine, None), next(theirs, None)
    while left is not None and right is not None:
        n = min(left.shape[0], right.shape[0])
        both = sparse.hstack([left[:n], right[:n]], format="csr")
        total += (both.T @ both).toarray()
        left = left[n:] if n < left.shape[0] else next(mine, None)
        right = right[n:] if n < right.shape[0] else next(theirs, None)
    return total


def _tables(codes: CodeCache, latents: np.ndarray) -> Iterator[sparse.csr_array]:
    """(n, K) activations of these latents, shard by shard."""
    column = np.full(codes.n_latents, -1)
    column[latents] = np.arange(len(latents))
    for _, part, n in codes.shards():
        of = column[part.latent.numpy()]
        kept = of >= 0
        entries = part.value.numpy()[kept].astype(np.float64), (part.row.numpy()[kept], of[kept])
        yield sparse.csr_array(entries, shape=(n, len(latents)))
