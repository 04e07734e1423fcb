"""One pass over codes and activations: all that grouping changed latents and the findings' sizes need.

With c_j = f_j v_j a latent's predicted change, D = x_tuned - x_base and D' the sum of the c_j, a set S of latents
explains of the difference between the models

    alone       1 - sum |D - D'_S|^2 / sum |D|^2  =  (2 sum_j b_j - sum_jk G_jk) / sum |D|^2,   j, k in S
    its part    (2 sum_j b_j - sum_jk G_jk) / sum |D|^2,   j in S, k any changed latent

with b_j = sum D . c_j and G_jk = sum c_j . c_k. The parts of disjoint sets add up to what all explain: each is the
Shapley value of its set (a game of squares and products halves what two players make together; Shapley 1953).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache
from mneme.effects.explained import Directions
from mneme.findings.grouping import gram
from mneme.harvest.protocols import Activations

BATCH = 4096
"""Rows of activations read at a time."""


class ChangeSums(NamedTuple):
    """Sums over all N tokens, of K changed latents."""

    moved: Directions
    co_firing: np.ndarray
    """(K, K): sum of f_j f_k."""
    along: np.ndarray
    """(K,): b_j, sum of D . c_j."""
    difference: float
    """sum of |D|^2, raw units squared."""
    typical: float
    """Root mean square of |x_base - mean|, raw units."""
    products: np.ndarray
    """(K, K): G."""


def changed_codes(codes: CodeCache, latent: np.ndarray) -> Iterator[tuple[int, sparse.csr_array]]:
    """(first token, (n, K) activations) of the chosen latents, BATCH tokens at a time, in token order."""
    column = np.full(codes.n_latents, -1)
    column[latent] = np.arange(len(latent))
    for first, part, n in codes.shards():
        of = column[part.latent.numpy()]
        kept = of >= 0
        entries = part.value.numpy()[kept].astype(np.float64), (part.row.numpy()[kept], of[kept])
        table = sparse.csr_array(entries, shape=(n, len(latent)))
        for at in range(0, n, BATCH):
            yield first + at, table[at : at + BATCH]


def sum_changes(
    cache: Activations, codes: CodeCache, moved: Directions, progress: Progress = NULL_PROGRESS
) -> ChangeSums:
    """Add up codes and activations, in token order."""
    size, d = len(moved.latent), cache.width
    co_firing, onto = np.zeros((size, size)), np.zeros((size, d))
    difference, mean, square = 0.0, np.zeros(d), 0.0
    with progress.task("findings: what changed together", cache.n, "tokens") as task:
        for first, table in changed_codes(codes, moved.latent):
            x = cache.read(first, first + table.shape[0]).double().numpy()  # (B, 2, d)
            delta = x[:, 1] - x[:, 0]
            co_firing += (table.T @ table).toarray()
            onto += table.T @ delta
            difference += float(np.square(delta).sum())
            mean += x[:, 0].sum(0)
            square += float(np.square(x[:, 0]).sum())
            task.advance(len(x))
    n = max(cache.n, 1)
    variance = square / n - float(np.square(mean / n).sum())
    along = (onto * moved.vector).sum(1)
    typical = float(np.sqrt(max(variance, 0.0)))
    return ChangeSums(moved, co_firing, along, difference, typical, gram(co_firing, moved.vector))


def explained_alone(sums: ChangeSums, members: np.ndarray) -> float:
    """Share of the squared difference that these latents explain by themselves; NaN where nothing differs."""
    products = sums.products[np.ix_(members, members)]
    return _share(2 * sums.along[members].sum() - products.sum(), sums.difference)


def explained_parts(sums: ChangeSums) -> np.ndarray:
    """(K,): each latent's part of what all changed latents explain, as a share of the squared difference."""
    found: np.ndarray = (
        (2 * sums.along - sums.products.sum(1)) / sums.difference
        if sums.difference > 0
        else np.full(len(sums.along), np.nan)
    )
    return found


def co_firing(codes: CodeCache, latent: np.ndarray) -> np.ndarray:
    """(K, K): sum over tokens of f_j f_k; one pass over the codes."""
    found = np.zeros((len(latent), len(latent)))
    for _, table in changed_codes(codes, latent):
        found += (table.T @ table).toarray()
    return found


def spectrum(sums: ChangeSums, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`spectrum_of` some latents' predicted change. members: places in sums.moved."""
    return spectrum_of(sums.co_firing[np.ix_(members, members)], sums.moved.vector[members])


def spectrum_of(firing: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) shares of sum |D'_S|^2 along its principal directions, the largest first; (R, d) the unit directions.

    About 0, not about the mean. The sign of each: the way D' moves, on the whole. firing: (K, K), sums over tokens of
    f_j f_k; vectors: (K, d).
    """
    values, bases = np.linalg.eigh(firing)
    root = (bases * np.sqrt(np.maximum(values, 0))) @ bases.T
    _, lengths, directions = np.linalg.svd(root @ vectors, full_matrices=False)
    # the sum of all members' changes, weighted by how much they fire, tells the sign
    towards = directions @ (np.sqrt(np.maximum(np.diag(firing), 0)) @ vectors)
    directions = directions * np.where(towards < 0, -1, 1)[:, None]
    total = float(np.square(lengths).sum())
    return (np.square(lengths) / total if total > 0 else np.zeros(len(lengths))), directions


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
