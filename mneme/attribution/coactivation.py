"""How strongly chosen pairs of latents fire together: sums of f_j f_k over tokens.

Of all pairs that ever fire together a large dictionary has billions; those whose directions are related, and those
of one group, are few. So pairs are chosen first, and only theirs are counted.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from mneme.crosscoder.codes import CodeCache

_CHUNK = 2**24  # cosines held at once
_MOST_THREADS, _MOST_SUMS = 4, 2**27  # each thread has sums of its own: 1 GB in all


class Pairs(NamedTuple):
    """P pairs j < k of F latents, sorted by j, then k."""

    starts: np.ndarray
    """(F + 1,) int64: where the pairs of each j begin."""
    other: np.ndarray
    """(P,) int32: k."""

    def first(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """int64: j of the pairs begin .. end."""
        numbers = np.arange(begin, len(self.other) if end is None else end)
        return np.searchsorted(self.starts, numbers, side="right") - 1


class Together(NamedTuple):
    """What latents sum to over the tokens read."""

    pairs: Pairs
    products: np.ndarray
    """(P,) float64: sum f_j f_k."""
    squares: np.ndarray
    """(F,) float64: sum f_j^2."""
    n_tokens: int

    def matrix(self) -> sparse.csr_array:
        """(F, F), symmetric: the products, and the squares on the diagonal."""
        n = len(self.squares)
        upper = sparse.csr_array((self.products, self.pairs.other, self.pairs.starts), shape=(n, n))
        found: sparse.csr_array = (upper + upper.T + sparse.diags_array(self.squares)).tocsr()
        return found


def make_pairs(first: np.ndarray, other: np.ndarray, n_latents: int) -> Pairs:
    """Of pairs j < k in any order."""
    order = np.lexsort((other, first))
    return Pairs(_starts(np.bincount(first, minlength=n_latents)), other[order].astype(np.int32))


def related_pairs(directions: Tensor, cosine: float) -> Pairs:
    """Pairs whose unit directions (F, d) have an absolute cosine of at least so much."""
    n = len(directions)
    size = max(1, _CHUNK // max(n, 1))
    counts, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for begin in range(0, n, size):
        near = (directions[begin : begin + size] @ directions[begin:].T).abs() >= cosine
        near = torch.triu(near, diagonal=1)
        counts.append(near.sum(1).cpu().numpy())
        others.append((near.nonzero()[:, 1] + begin).int().cpu().numpy())
    return Pairs(_starts(np.concatenate(counts)), np.concatenate(others))


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def pairs_within(group: np.ndarray) -> Pairs:
    """Pairs of the same group; group (F,), -1 for none."""
    firsts, others = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order], prepend=-2, append=group.max(initial=-1) + 1))
    for a, b in pairwise(bounds.tolist()):
        if group[order[a]] >= 0:
            j, k = np.triu_indices(b - a, 1)
            firsts.append(order[a:b][j])
            others.append(order[a:b][k])
    return make_pairs(np.concatenate(firsts), np.concatenate(others), len(group))


def coactivation(
    codes: CodeCache | None, pairs: Pairs, max_tokens: int, tokens: np.ndarray | None = None
) -> Together:
    """Sums over about the first `max_tokens` tokens of a CodeCache; None has no tokens.

    tokens: (N,) bool, those that count; None: all.
    """
    n_latents = len(pairs.starts) - 1
    n_threads = min(torch.get_num_threads(), _MOST_THREADS, max(1, _MOST_SUMS // max(1, len(pairs.other))))
    products, squares = np.zeros((n_threads, len(pairs.other))), np.zeros(n_latents)
    seen = 0
    with ThreadPoolExecutor(n_threads) as pool:
        for first, (row, latent, value), n in codes.shards() if codes is not None else ():
            if tokens is not None:
                mine = torch.from_numpy(tokens[first : first + n])[row]
                row, latent, value = row[mine], latent[mine], value[mine]
            pointers = np.concatenate([[0], np.cumsum(np.bincount(row.cpu().numpy(), minlength=n))])
            latents, values = latent.cpu().numpy().astype(np.int32), value.cpu().numpy().astype(np.float64)
            squares += np.bincount(latents, values**2, minlength=n_latents)
            bounds = pairwise(np.linspace(0, n, n_threads + 1).astype(int).tolist())
            parts = [
                pool.submit(_add, *part, pointers, latents, values, *pairs, out)
                for part, out in zip(bounds, products, strict=True)
            ]
            for part in parts:
                part.result()
            seen += n if tokens is None else int(tokens[first : first + n].sum())
            if seen >= max_tokens:
                break
    return Together(pairs, products.sum(0), squares, seen)


@numba.njit(nogil=True, cache=True)
def _add(
    start: int,
    stop: int,
    pointers: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    starts: np.ndarray,
    other: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover
    """Add f_j f_k of tokens start .. stop to `out` (P,)."""
    active = np.zeros(len(starts) - 1)  # this token's f of every latent
    for t in range(start, stop):
        begin, end = pointers[t], pointers[t + 1]
        for i in range(begin, end):
            active[latent[i]] = value[i]
        for i in range(begin, end):
            f = value[i]
            for s in range(starts[latent[i]], starts[latent[i] + 1]):
                out[s] += f * active[other[s]]
        for i in range(begin, end):
            active[latent[i]] = 0
