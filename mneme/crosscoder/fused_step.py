"""A training step's work over active pairs on a processor, fused: what is read once serves all that is made of it.

`scan` finds what may be selected in one pass over the pre-activations, without a tensor of selection values.
`weighted_bags` adds four rows up for each time it writes.
`decode` reads a token's decoders once, for its reconstruction and then, while they are in the nearest cache, for the
gradient of its codes. Each output is made by one thread in one order, so that the same input gives the same bits.
Compiled by numba at first use and kept; `mneme.crosscoder.kernels` has the portable forms.

Letters: B tokens, d width, D = 2d, F latents, n active pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numba
import numpy as np
import torch
from torch import Tensor

_ORDER_IS_FREE = {"reassoc", "contract", "nsz", "arcp"}  # not nnan, ninf: what isn't finite must show
_BLOCK = 32  # entries of a row that one comparison looks at

_Made = TypeVar("_Made")


@numba.njit(nogil=True, cache=True)
def _scan(
    pre: np.ndarray, cut: np.ndarray, start: int, stop: int, out: np.ndarray
) -> int:  # pragma: no cover
    """Flat positions of entries (row by row) over their column's cut, into `out`; their number, if it fits or not."""
    n, F = 0, pre.shape[1]
    for t in range(start, stop):
        row = pre[t]
        for begin in range(0, F, _BLOCK):
            end = min(begin + _BLOCK, F)
            values, cuts = row[begin:end], cut[begin:end]
            hits = 0
            for j in range(len(values)):  # compiled to a few vector comparisons: most blocks have no hit
                hits += values[j] > cuts[j]
            if hits and n + _BLOCK <= len(out):
                m = n
                for j in range(len(values)):  # written in any case: no branch to foretell
                    out[m] = t * F + begin + j
                    m += values[j] > cuts[j]
                n = m
            elif hits:
                for j in range(len(values)):
                    if values[j] > cuts[j]:
                        if n < len(out):
                            out[n] = t * F + begin + j
                        n += 1
    return n


@numba.njit(nogil=True, cache=True, fastmath=_ORDER_IS_FREE)
def _decode(
    start: int,
    stop: int,
    pointers: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    x: np.ndarray,
    dec: np.ndarray,
    b_dec: np.ndarray,
    residual: np.ndarray,
    dots: np.ndarray,
) -> None:  # pragma: no cover
    """Tokens start .. stop: residual (B, D) = x - x_hat, dots (n,) = residual . dec[latent]."""
    D = len(b_dec)
    for t in range(start, stop):
        e = residual[t]
        for c in range(D):
            e[c] = x[t, c] - b_dec[c]
        i, end = pointers[t], pointers[t + 1]
        while i + 4 <= end:  # four rows for each time e is written
            f0, f1, f2, f3 = value[i], value[i + 1], value[i + 2], value[i + 3]
            r0, r1, r2, r3 = dec[latent[i]], dec[latent[i + 1]], dec[latent[i + 2]], dec[latent[i + 3]]
            for c in range(D):
                e[c] -= f0 * r0[c] + f1 * r1[c] + f2 * r2[c] + f3 * r3[c]
            i += 4
        while i < end:
            f0, r0 = value[i], dec[latent[i]]
            for c in range(D):
                e[c] -= f0 * r0[c]
            i += 1
        for i in range(pointers[t], end):
            r0 = dec[latent[i]]
            total = np.float32(0)
            for c in range(D):
                total += e[c] * r0[c]
            dots[i] = total


@numba.njit(nogil=True, cache=True, fastmath=_ORDER_IS_FREE)
def _bags(
    start: int,
    stop: int,
    pointers: np.ndarray,
    index: np.ndarray,
    weight: np.ndarray,
    table: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover
    """Bags start .. stop: out[b] = sum of weight_i table[index_i] over the bag's entries."""
    D = table.shape[1]
    for b in range(start, stop):
        total = out[b]
        total[:] = 0
        i, end = pointers[b], pointers[b + 1]
        while i + 4 <= end:
            w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
            r0, r1, r2, r3 = table[index[i]], table[index[i + 1]], table[index[i + 2]], table[index[i + 3]]
            for c in range(D):
                total[c] += w0 * r0[c] + w1 * r1[c] + w2 * r2[c] + w3 * r3[c]
            i += 4
        while i < end:
            w0, r0 = weight[i], table[index[i]]
            for c in range(D):
                total[c] += w0 * r0[c]
            i += 1


def scan(pre: Tensor, cut: Tensor, expected: int) -> Tensor:
    """Ascending flat positions of all entries over their column's cut.

    pre: (B, F), cut: (F,) above 0, both float32 or bfloat16. `expected`: about how many there are.
    """
    # positive floats compare like their bits
    bits = torch.int16 if pre.dtype == torch.bfloat16 else torch.int32
    flat, cuts = pre.view(bits).numpy(), cut.view(bits).numpy()
    room = [expected]

    def share(start: int, stop: int) -> np.ndarray:
        out = np.empty(room[0], dtype=np.int64)
        found = _scan(flat, cuts, start, stop, out)
        if found > len(out):
            out = np.empty(found, dtype=np.int64)
            _scan(flat, cuts, start, stop, out)
        return out[:found]

    return torch.from_numpy(np.concatenate(_threads(share, np.linspace(0, len(pre), _n() + 1).astype(int))))


def decode(
    pointers: np.ndarray, latent: Tensor, value: Tensor, x: Tensor, dec: Tensor, b_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Residual x - x_hat (B, D), and its product (n,) with each active pair's decoder.

    pointers: (B + 1,), where each token's pairs begin; x: (B, D), dec: (F, D), b_dec: (D,), float32.
    """
    residual, dots = torch.empty(x.shape), torch.empty(len(latent))
    arrays = [part.detach().contiguous().numpy() for part in (latent, value, x, dec, b_dec, residual, dots)]
    _threads(lambda start, stop: _decode(start, stop, pointers, *arrays), _even(pointers))
    return residual, dots


def weighted_bags(pointers: np.ndarray, index: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """out[b] = sum over a bag's entries of weight_i table[index_i]: pointers (bags + 1,), table (rows, D) float32."""
    out = torch.empty(len(pointers) - 1, table.shape[1])
    arrays = [part.detach().contiguous().numpy() for part in (index, weight, table, out)]
    _threads(lambda start, stop: _bags(start, stop, pointers, *arrays), _even(pointers))
    return out


def _even(pointers: np.ndarray) -> np.ndarray:
    """Bounds of a share for each thread: equal in pairs, and in what has none."""
    work = pointers + np.arange(len(pointers))
    return np.searchsorted(work, np.linspace(0, work[-1], _n() + 1))


def _threads(share: Callable[[int, int], _Made], bounds: np.ndarray) -> list[_Made]:
    """share(start, stop) for each two bounds that follow each other, each in a thread."""
    pairs = [(int(a), int(b)) for a, b in itertools.pairwise(bounds)]
    if len(pairs) == 1:
        return [share(*pairs[0])]
    return list(_pool(len(pairs)).map(lambda pair: share(*pair), pairs))


def _n() -> int:
    return torch.get_num_threads()


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)
