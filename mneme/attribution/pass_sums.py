"""What one pass over the activations adds up, and how well the reconstruction fits there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mneme._util import distributed
from mneme.attribution.beta_intervals import BetaMoments
from mneme.attribution.bootstrap import BootstrapSums
from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import (
    DocumentJoiner,
    DocumentMoments,
    DocumentShares,
)
from mneme.attribution.firing import FiringSums
from mneme.attribution.fused_sums import TokenSums
from mneme.attribution.geometry import Geometry
from mneme.attribution.halves import HalfMoments
from mneme.attribution.pairs import PairSums
from mneme.attribution.scaling import (
    ScalingSums,
)
from mneme.crosscoder.module import Crosscoder


@dataclass(frozen=True)
class FitQuality:
    """How well the reconstruction fits, from the same pass; sums in float64, models ordered base, tuned."""

    residual: np.ndarray
    """(2,): sum of squared errors, raw units."""
    variance: np.ndarray
    """(2,): sum of squared deviations from the mean, raw units."""
    normalised_power: np.ndarray
    """(2,): mean |normalise(x)|^2 / d: 1 when the normaliser fits these activations."""

    @property
    def explained_variance(self) -> np.ndarray:
        """(2,): 1 - residual / variance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = 1 - self.residual / self.variance
            return found


class AttributionSums:
    """The running sums of one pass."""

    def __init__(
        self,
        geometry: Geometry,
        config: AttributionConfig,
        counts: np.ndarray | None = None,
        document: np.ndarray | None = None,
    ) -> None:
        """counts: (D,) bool, by number: documents that evidence is made of, those that training did not read; None:
        all. Firing and fit are of all. document: (N,) of each token, where counts is given."""
        F = geometry.n_latents
        self.counts, self._document = counts, document
        self._training, self._training_joiner = DocumentMoments(F), DocumentJoiner(geometry)
        self.geometry, self.config = geometry, config
        self.scaling, self.moments, self.beta_moments = ScalingSums(F), DocumentMoments(F), BetaMoments(F)
        self.halves = HalfMoments(F)
        self.firing = FiringSums(F, config.first_positions)
        self.bootstrap = (
            BootstrapSums(F, config.replicates, config.seed) if config.interval == "bootstrap" else None
        )
        self._joiner = DocumentJoiner(geometry)
        d = geometry.decoder.shape[2]
        self._n, self._residual = 0, np.zeros(2)
        self._sum, self._square = np.zeros((2, d)), np.zeros(2)

    def update(self, pairs: PairSums) -> None:
        """Add a batch's sums to scaling and evidence, of documents that count."""
        if self.counts is not None:
            mine = self.counts[pairs.document]
            self._training.update(self._training_joiner.push(_of(pairs, ~mine)))
            pairs = _of(pairs, mine)
        self.scaling.update(pairs)
        self._evidence(self._joiner.push(pairs))

    def update_fit(self, tokens: TokenSums) -> None:
        """Add a batch's tokens to the fit."""
        self._n += tokens.n
        self._residual += tokens.residual
        self._sum += tokens.total
        self._square += tokens.square

    def finish(self, crosscoder: Crosscoder) -> FitQuality:
        """Take in the last document; the fit's sums. Of the crosscoder, its normaliser."""
        last = self._joiner.finish()
        if last is not None:
            self._evidence(last)
        last = self._training_joiner.finish()
        if last is not None:
            self._training.update(last)
        self._over_ranks()
        n = max(self._n, 1)
        variance = np.maximum(self._square - (self._sum**2).sum(1) / n, 0)
        # normalise(x) = normalise(b) + (x - b) / scale
        scale = crosscoder.scale.double().cpu().numpy()
        bias = self.geometry.bias
        offset = crosscoder.normalise(bias[None])[0].double().cpu().numpy()
        normalised = self._square / scale**2 + 2 * (offset * self._sum).sum(1) / scale
        normalised += self._n * (offset**2).sum(1)
        return FitQuality(self._residual, variance, normalised / (n * self._sum.shape[1]))

    @property
    def tokens(self) -> np.ndarray | None:
        """(N,) bool: those of documents that count; None: all."""
        if self.counts is None or self._document is None:
            return None
        found: np.ndarray = self.counts[self._document]
        return found

    @property
    def n_tokens(self) -> int:
        """How many these are."""
        return self.firing.n_tokens if self.tokens is None else int(self.tokens.sum())

    @property
    def training(self) -> DocumentMoments | None:
        """The moments of the documents that training read; None where no document is held out."""
        return None if self.counts is None else self._training

    def _over_ranks(self) -> None:
        """Add up what every rank's documents gave. Collective."""
        for sums in (
            self.scaling,
            self.moments,
            self.halves,
            self.beta_moments,
            self.firing,
            self.bootstrap,
            self._training,
        ):
            if sums is not None:
                sums.over_ranks()
        n = np.array([self._n])
        distributed.add_up(n, self._residual, self._sum, self._square)
        self._n = int(n[0])

    def _evidence(self, rows: DocumentShares) -> None:
        self.moments.update(rows)
        self.halves.update(rows)
        self.beta_moments.update(rows)
        if self.bootstrap is not None:
            self.bootstrap.update(rows)


def _of(pairs: PairSums, rows: np.ndarray) -> PairSums:
    """Some rows."""
    return PairSums(*(part[rows] for part in pairs))
