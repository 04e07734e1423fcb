"""When each latent fires: how often, how strongly, where in a document, and what the models lost there."""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme.crosscoder.codes import SparseCodes

HISTOGRAM_EDGES = np.geomspace(1e-3, 1e4, 43)
"""Ends of the activation histogram's bins, six a decade, the same for all latents and runs."""


@numba.njit(nogil=True, cache=True)
def _count(
    row: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    is_first: np.ndarray,
    edges: np.ndarray,
    n_active: np.ndarray,
    total: np.ndarray,
    maximum: np.ndarray,
    n_first: np.ndarray,
    histogram: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Add each code to its latent's counts."""
    last = histogram.shape[1] - 1
    for i in range(len(row)):
        j, v = latent[i], value[i]
        n_active[j] += 1
        total[j] += v
        maximum[j] = max(maximum[j], v)
        n_first[j] += is_first[row[i]]
        histogram[j, min(max(np.searchsorted(edges, v, side="right") - 1, 0), last)] += 1


@numba.njit(nogil=True, cache=True)
def _weigh(
    row: np.ndarray, latent: np.ndarray, value: np.ndarray, measured: np.ndarray, out: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Add f y and f to out (2, F), of the codes on tokens where y is known."""
    for i in range(len(row)):
        y = measured[row[i]]
        if np.isfinite(y):
            out[0, latent[i]] += value[i] * y
            out[1, latent[i]] += value[i]


class FiringSums:
    """Running sums of F latents over tokens."""

    def __init__(self, n_latents: int, first_positions: int) -> None:
        self._first = first_positions
        self._bins = len(HISTOGRAM_EDGES) - 1
        self.n_tokens = 0
        self.n_first_tokens = 0
        self.n_silent_tokens = 0
        self.n_active = np.zeros(n_latents, dtype=np.int64)
        self.total = np.zeros(n_latents)
        self.maximum = np.zeros(n_latents)
        self.n_first = np.zeros(n_latents, dtype=np.int64)
        self.histogram = np.zeros((n_latents, self._bins), dtype=np.int64)
        # sum f * y and sum f, over the tokens where y was measured
        self.behaviour = {name: np.zeros((2, n_latents)) for name in ("kl", "nll_change")}

    def update(
        self, codes: SparseCodes, n: int, position: np.ndarray, kl: np.ndarray, nll_change: np.ndarray
    ) -> None:
        """Add n tokens: their SparseCodes, and position, kl, nll_change (n,) with NaN where not measured."""
        row, latent = codes.row.cpu().numpy(), codes.latent.cpu().numpy()
        value = codes.value.double().cpu().numpy()
        fires = np.zeros(n, dtype=bool)
        fires[row] = True
        first = position < self._first
        self.n_tokens += n
        self.n_first_tokens += int(first.sum())
        self.n_silent_tokens += n - int(fires.sum())
        counts = (self.n_active, self.total, self.maximum, self.n_first, self.histogram)
        _count(row, latent, value, first, HISTOGRAM_EDGES, *counts)
        for name, measured in (("kl", kl), ("nll_change", nll_change)):
            _weigh(row, latent, value, measured.astype(np.float64), self.behaviour[name])

    def over_ranks(self) -> None:
        """Add up what every rank's tokens gave. Collective."""
        counts = np.array([self.n_tokens, self.n_first_tokens, self.n_silent_tokens])
        distributed.add_up(
            counts, self.n_active, self.total, self.n_first, self.histogram, *self.behaviour.values()
        )
        self.n_tokens, self.n_first_tokens, self.n_silent_tokens = counts.tolist()
        distributed.largest(self.maximum)

    def frame(self, dense_rate: float, position_share: float) -> pd.DataFrame:
        """A row a latent: firing_rate, mean_activation, ..., dense, position_bound, kl, nll_change."""
        rate = self.n_active / max(self.n_tokens, 1)
        share = divide(self.n_first.astype(float), self.n_active.astype(float))
        expected = self.n_first_tokens / max(self.n_tokens, 1)
        return pd.DataFrame(
            {
                "firing_rate": rate,
                "n_active": self.n_active,
                "mean_activation": divide(self.total, self.n_active.astype(float)),
                "max_activation": np.where(self.n_active > 0, self.maximum, np.nan),
                "kl": divide(*self.behaviour["kl"]),
                "nll_change": divide(*self.behaviour["nll_change"]),
                "dead": self.n_active == 0,
                "dense": rate > dense_rate,
                # in a corpus of very short documents half the tokens may be first ones: that binds nothing
                "position_bound": (share > position_share) & (share > 2 * expected),
            }
        )

    def histogram_frame(self) -> pd.DataFrame:
        """A row a bin that is not empty, columns of the `activation_histogram` table."""
        latent, b = self.histogram.nonzero()
        return pd.DataFrame(
            {
                "latent": latent,
                "bin": b,
                "low": HISTOGRAM_EDGES[b],
                "high": HISTOGRAM_EDGES[b + 1],
                "n": self.histogram[latent, b],
            }
        )
