"""Beta of either half of the documents: what it is, and by how much two halves may differ.

Halves are the documents of even and of odd number. In either, beta is a ratio of sums over documents, s_i over c_i
|p|^2, and its variance is linearised at the estimate (mneme/stats/linearised.py). The two are independent, so their
difference has the sum of both variances; its degrees of freedom are Welch's (1947), each half counting as many units
as its documents tell as much as.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme.attribution.evidence import DocumentShares
from mneme.attribution.geometry import Geometry
from mneme.attribution.scatter import add_rows
from mneme.stats.linearised import variance
from mneme.stats.moments import effective_number

_SUMS = ("n", "power", "power_square", "totals", "products", "squares")


class HalfMoments:
    """Moments over documents of F latents' shares, in each half; float64."""

    def __init__(self, n_latents: int) -> None:
        self.n = np.zeros((2, n_latents))
        """(half, F): documents it fires in."""
        self.power = np.zeros((2, n_latents))
        """sum c."""
        self.power_square = np.zeros((2, n_latents))
        """sum c c."""
        self.totals = np.zeros((2, n_latents, 2))
        """(half, F, model): sum s."""
        self.products = np.zeros((2, n_latents, 2))
        """sum s c."""
        self.squares = np.zeros((2, n_latents, 2))
        """sum s s."""

    def update(self, rows: DocumentShares) -> None:
        """Add whole documents."""
        for half in (0, 1):
            mine = rows.document % 2 == half
            latent, power, shares = rows.latent[mine], rows.power[mine], rows.shares[mine]
            n_latents = self.n.shape[1]
            self.n[half] += np.bincount(latent, minlength=n_latents)
            self.power[half] += np.bincount(latent, power, n_latents)
            self.power_square[half] += np.bincount(latent, power**2, n_latents)
            add_rows(self.totals[half], latent, shares)
            add_rows(self.products[half], latent, shares * power[:, None])
            add_rows(self.squares[half], latent, shares**2)

    def over_ranks(self) -> None:
        """Add up what every rank's documents gave. Collective."""
        distributed.add_up(*(getattr(self, name) for name in _SUMS))

    def betas(self, geometry: Geometry) -> np.ndarray:
        """(half, model, F): beta on the error target and the contrast's probes."""
        return divide(self.totals.transpose(0, 2, 1), self.power[:, None] * _norms(geometry))

    def allowed(self, geometry: Geometry, level: float) -> np.ndarray:
        """(model, F): how far apart two halves of one beta are at most, in a share `level` of all cases.

        NaN where a half has fewer than two documents.
        """
        totals, products, squares = (
            part.transpose(0, 2, 1) for part in (self.totals, self.products, self.squares)
        )
        power, power_square = self.power[:, None], self.power_square[:, None]
        n = np.minimum(effective_number(power, power_square), self.n[:, None])
        found = variance(divide(totals, power), squares, products, power, power_square, n)
        with np.errstate(invalid="ignore"):
            of_each = (found**2 / np.where(n > 1, n - 1, np.nan)).sum(0)
        freedom = divide(found.sum(0) ** 2, of_each)
        t = stats.t.ppf(0.5 + level / 2, np.maximum(freedom, 0.1))
        apart: np.ndarray = t * np.sqrt(found.sum(0)) / _norms(geometry)
        return np.where((self.n > 1).all(0), apart, np.nan)


def _norms(geometry: Geometry) -> np.ndarray:
    """(model, F): |p| of the contrast's probes."""
    found: np.ndarray = geometry.norms[np.stack(geometry.contrast), np.arange(geometry.n_latents)]
    return found


def correlation(halves: np.ndarray) -> np.ndarray:
    """(2 models,): Pearson correlation of beta between halves of the documents, over latents in both.

    halves: (half, model, F). NaN with fewer than three latents or no spread. It tells how far betas of half the text
    agree beside how far latents differ: where most betas are alike it is low however exactly each is known.
    """
    found = np.full(2, np.nan)
    for m in (0, 1):
        a, b = halves[:, m]
        known = np.isfinite(a) & np.isfinite(b)
        if known.sum() > 2 and a[known].std() > 0 and b[known].std() > 0:
            found[m] = np.corrcoef(a[known], b[known])[0, 1]
    return found


def share_apart(halves: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """(2 models,): share of the latents known in both halves whose betas differ by more than `limit`, (model, F).

    NaN of no latent. A latent without a limit (NaN) is not counted.
    """
    apart = np.abs(halves[0] - halves[1])
    limit = np.broadcast_to(limit, apart.shape)
    known = np.isfinite(apart) & ~np.isnan(limit)
    return divide((known & (apart > limit)).sum(1), known.sum(1))
