"""The sums of latent scaling on a processor, fused: what a token's active latents need is read once.

Decoding a token reads its latents' decoders from memory. While they are in the nearest cache, the products of
all of them with the activation and with the residual are taken, so that there is no sort, no table of bags and
no reconstruction in memory. Compiled by numba (umap-learn brings it) at first use, and kept beside the source
or in the user's cache; `mneme.attribution.pairs.bag_sums` is the portable form it is tested against.

Products within a token are in the activations' precision; everything across tokens is added in float64.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np

_ORDER_IS_FREE = {"reassoc", "contract", "nsz", "arcp"}  # not nnan, ninf: what isn't finite must show


class TokenSums(NamedTuple):
    """Sums over a batch's tokens; float64."""

    n: int
    total: np.ndarray
    """(2, d): sum x - b."""
    square: np.ndarray
    """(2,): sum |x - b|^2."""
    residual: np.ndarray
    """(2,): sum |x - x_hat|^2."""


@numba.njit(nogil=True, cache=True, fastmath=_ORDER_IS_FREE)
def _token_dots(
    start: int,
    stop: int,
    pointers: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    x: np.ndarray,
    decoder: np.ndarray,
    bias: np.ndarray,
    dots: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
) -> None:  # pragma: no cover
    """Tokens start .. stop: dots (n, 8) of their pairs; adds to total (2 d,) and squares (4,)."""
    width = bias.shape[0]
    d = width // 2
    zero = bias.dtype.type(0)
    y = np.empty_like(bias)
    e = np.empty_like(bias)
    for t in range(start, stop):
        for c in range(width):
            y[c] = x[t, c] - bias[c]
            e[c] = y[c]
        i, end = pointers[t], pointers[t + 1]
        while i + 4 <= end:  # four rows for each time e is written
            f0, f1, f2, f3 = value[i], value[i + 1], value[i + 2], value[i + 3]
            r0, r1, r2, r3 = (
                decoder[latent[i]], decoder[latent[i + 1]], decoder[latent[i + 2]], decoder[latent[i + 3]]
            )  # fmt: skip
            for c in range(width):
                e[c] -= f0 * r0[c] + f1 * r1[c] + f2 * r2[c] + f3 * r3[c]
            i += 4
        while i < end:
            f0, r0 = value[i], decoder[latent[i]]
            for c in range(width):
                e[c] -= f0 * r0[c]
            i += 1
        for m in range(2):
            whole = rest = zero
            for c in range(m * d, (m + 1) * d):
                total[c] += y[c]
                whole += y[c] * y[c]
                rest += e[c] * e[c]
            squares[m] += whole
            squares[2 + m] += rest
        y_base, y_tuned, e_base, e_tuned = y[:d], y[d:], e[:d], e[d:]
        for i in range(pointers[t], pointers[t + 1]):
            row = decoder[latent[i]]
            p_base, p_tuned = row[:d], row[d:]
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zero
            for c in range(d):
                to_base, to_tuned = p_base[c], p_tuned[c]
                a0 += y_base[c] * to_base
                a1 += y_base[c] * to_tuned
                a2 += y_tuned[c] * to_base
                a3 += y_tuned[c] * to_tuned
                a4 += e_base[c] * to_base
                a5 += e_base[c] * to_tuned
                a6 += e_tuned[c] * to_base
                a7 += e_tuned[c] * to_tuned
            out = dots[i]
            out[0], out[1], out[2], out[3] = a0, a1, a2, a3
            out[4], out[5], out[6], out[7] = a4, a5, a6, a7


@numba.njit(nogil=True, cache=True)
def _by_document(
    pointers: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    dots: np.ndarray,
    document: np.ndarray,
    slot: np.ndarray,
    out: tuple[np.ndarray, ...],
) -> int:  # pragma: no cover
    """Add up f dots of the same (document, latent); the number of such pairs. `slot` (F,) comes and goes as -1."""
    of_document, of_latent, fires, power, sums = out
    n = first = 0
    for t in range(len(pointers) - 1):
        if t and document[t] != document[t - 1]:
            for u in range(first, n):
                slot[of_latent[u]] = -1
            first = n
        for i in range(pointers[t], pointers[t + 1]):
            j = latent[i]
            u = slot[j]
            if u < 0:
                u = n
                n += 1
                slot[j] = u
                of_document[u], of_latent[u] = document[t], j
                fires[u] = 0
                power[u] = 0
                sums[u] = 0
            f = np.float64(value[i])
            fires[u] += 1
            power[u] += f * f
            for c in range(8):
                sums[u, c] += f * dots[i, c]
    for u in range(first, n):
        slot[of_latent[u]] = -1
    return n


class FusedSums:
    """The sums of one pass, batch after batch; holds decoders latent by latent and room for a batch."""

    def __init__(self, decoder: np.ndarray, bias: np.ndarray) -> None:
        """decoder: (2, F, d), bias: (2, d), raw units, float32 or float64."""
        self._decoder = np.ascontiguousarray(decoder.transpose(1, 0, 2)).reshape(decoder.shape[1], -1)
        self._bias = np.ascontiguousarray(bias).reshape(-1)
        self._slot = np.full(decoder.shape[1], -1, dtype=np.int32)
        self._dots = np.empty((0, 8), self._decoder.dtype)
        self._out = self._room(0)

    @staticmethod
    def _room(n: int) -> tuple[np.ndarray, ...]:
        integers = (np.empty(n, np.int64) for _ in range(3))
        return (*integers, np.empty(n), np.empty((n, 8)))

    def batch(
        self,
        x: np.ndarray,
        row: np.ndarray,
        latent: np.ndarray,
        value: np.ndarray,
        document: np.ndarray,
        threads: int = 1,
    ) -> tuple[tuple[np.ndarray, ...], TokenSums]:
        """x: (B, 2, d) of the decoder's type; row, latent, value: (n,) codes;
        document: (B,), each contiguous.

        Returns document, latent, fires, power and dots (U, 2, 2, 2) of the U (document, latent) pairs, documents in
        order, latents as they first fire; and what the tokens come to.
        """
        B, n = len(x), len(row)
        pointers = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=B))])
        if n > len(self._dots):
            self._dots, self._out = np.empty((n + n // 4, 8), self._decoder.dtype), self._room(n + n // 4)
        flat = x.reshape(B, -1)
        # equal shares of the work, which is in the pairs
        ends = np.searchsorted(pointers, np.linspace(0, n, threads + 1)[1:-1])
        bounds = [0, *ends.tolist(), B]
        total = np.zeros((threads, flat.shape[1]))
        squares = np.zeros((threads, 4))

        def share(k: int) -> None:
            _token_dots(
                bounds[k], bounds[k + 1], pointers, latent, value, flat, self._decoder, self._bias,
                self._dots, total[k], squares[k],
            )  # fmt: skip

        if threads == 1:
            share(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(share, range(threads)))
        u = _by_document(pointers, latent, value, self._dots, document, self._slot, self._out)
        ids, latents, fires, power, sums = (part[:u].copy() for part in self._out)
        both = squares.sum(0)
        tokens = TokenSums(B, total.sum(0).reshape(2, -1), both[:2], both[2:])
        return (ids, latents, fires, power, sums.reshape(-1, 2, 2, 2)), tokens
