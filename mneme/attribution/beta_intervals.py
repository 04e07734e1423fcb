"""How sure each beta is: every target, model and probe, with documents as the unit of evidence.

A beta is a ratio of sums over documents: beta = sum_i s_i / (sum_i c_i |p|^2) with c_i = sum f^2 in document i and s_i
the document's share of the numerator. With a_i and e_i those of the activation and of the residual, the other targets'
are a_i - e_i (reconstruction) and e_i + c_i (d . p) (error). So second moments of a, e and c over documents give all
twelve intervals, and the error's is the residual's, moved.
"""

from __future__ import annotations

import numba
import numpy as np

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme.attribution.evidence import DocumentShares
from mneme.attribution.geometry import Geometry
from mneme.attribution.scaling import ScalingSums
from mneme.stats.linearised import half_width

_PAIRS = 4  # (model, probe)


@numba.njit(nogil=True, cache=True)
def _add(
    latent: np.ndarray, power: np.ndarray, dots: np.ndarray, square: np.ndarray, products: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Add each row to its latent's moments."""
    for u in range(len(latent)):
        j, c = latent[u], power[u]
        square[j] += c * c
        for i in range(_PAIRS):
            a, e = dots[u, i], dots[u, _PAIRS + i]
            products[j, i] += a * a
            products[j, _PAIRS + i] += a * e
            products[j, 2 * _PAIRS + i] += e * e
            products[j, 3 * _PAIRS + i] += a * c
            products[j, 4 * _PAIRS + i] += e * c


class BetaMoments:
    """Second moments over documents, F latents; float64."""

    def __init__(self, n_latents: int) -> None:
        self.power = np.zeros(n_latents)
        """sum c c."""
        self.products = np.zeros((n_latents, 5 * _PAIRS))
        """sum a a, a e, e e, a c, e c, of each (model, probe)."""

    def update(self, rows: DocumentShares) -> None:
        """Add whole documents."""
        _add(rows.latent, rows.power, rows.dots, self.power, self.products)

    def over_ranks(self) -> None:
        """Add up what every rank's documents gave. Collective."""
        distributed.add_up(self.power, self.products)

    def intervals(
        self, sums: ScalingSums, n: np.ndarray, geometry: Geometry, level: float = 0.95
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Target -> low and high ends (2 models m, 2 probes q, F) of beta.

        sums: of the same documents; n: (F,), how many of them each latent fires in.

        The variance is linearised at the estimate (mneme/stats/linearised.py); NaN of one document.
        """
        aa, ae, ee, ac, ec = self.products.reshape(-1, 5, 2, 2).transpose(1, 2, 3, 0)
        activation, residual = sums.dots.reshape(-1, 2, 2, 2).transpose(1, 2, 3, 0)
        norms = geometry.dots[[0, 1], [0, 1]]  # (2 q, F): |p|^2
        moments = {
            "activation": (activation, aa, ac),
            "reconstruction": (activation - residual, aa - 2 * ae + ee, ac - ec),
            "error": (residual, ee, ec),
        }
        found, betas = {}, sums.betas(geometry)
        for target, (total, square, product) in moments.items():
            ratio = divide(total, sums.power)
            half = half_width(ratio, square, product, sums.power, self.power, n, level)
            half = divide(half, norms)
            found[target] = betas[target] - half, betas[target] + half
        return found
