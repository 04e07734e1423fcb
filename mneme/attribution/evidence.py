"""How sure a change is: document-level sums, the interval of their ratio, and p-values against a margin.

Tokens of one document are not independent, documents nearly are. So the unit of evidence is the document:
for latent j, document i and model m let s_i^m be the document's share of the numerator of beta_j^m (error
target, main probe). Both models share the denominator, so

    beta_tuned / beta_base = S^t / S^b,    S^m = sum_i s_i^m

is a ratio of two sums over documents. For any ratio r, S^t - r S^b is a plain sum whose variance over
documents is known from the second moments of (s^b, s^t), and the ratios that a t-test does not reject at
the level form the interval (Fieller 1954). It needs six sums a latent, no replicates and no table of
latents by documents, and stays right where a logarithm's standard error does not: when one model does not
hold the latent at all, the interval is open on that side.

Why not bootstrap percentiles? A document bootstrap has this same covariance, but its percentiles are too
narrow when a latent fires in few documents (measured in `benchmarks/planted.py`); Student's t with one
degree of freedom less than the number of documents is what corrects it. `mneme.attribution.bootstrap` keeps
the replicates for those who want them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme.attribution.geometry import Geometry
from mneme.attribution.pairs import PairSums
from mneme.attribution.scatter import add_rows
from mneme.stats.fieller import magnitude_interval
from mneme.stats.linearised import p_no_larger
from mneme.stats.moments import covariance_of_sums, effective_number

LOG_LIMIT = 7.0
"""log ratios are cut at +-7 (a factor of 1,100): beyond it a model simply does not hold the latent."""


class DocumentShares(NamedTuple):
    """What whole documents add to each latent, U (document, latent) pairs."""

    document: np.ndarray
    """(U,) int64."""
    latent: np.ndarray
    """(U,) int64."""
    power: np.ndarray
    """(U,) float64: sum f^2."""
    shares: np.ndarray
    """(U, 2) float64: s_i^m, base and tuned: sum f (p . y_error^m) / |p|, raw units."""
    dots: np.ndarray
    """(U, 8) float64: `PairSums.dots`, what the betas of all targets and probes are made of."""


class DocumentJoiner:
    """Joins a document's pieces from successive batches; gives only documents that are complete."""

    def __init__(self, geometry: Geometry) -> None:
        self._n = geometry.n_latents
        base, tuned = geometry.contrast
        which = np.arange(self._n)
        self._probes = np.stack([base, tuned])  # (2, F)
        self._own = np.stack([geometry.dots[0, base, which], geometry.dots[1, tuned, which]])
        self._norm = np.stack([geometry.norms[base, which], geometry.norms[tuned, which]])
        self._held: DocumentShares | None = None

    def push(self, pairs: PairSums) -> DocumentShares:
        """Add one batch; the documents that are now complete (all but the last one seen)."""
        shares = np.empty((len(pairs.latent), 2))
        for m in (0, 1):
            residual = pairs.dots[np.arange(len(shares)), 1, m, self._probes[m, pairs.latent]]
            whole = residual + pairs.power * self._own[m, pairs.latent]
            shares[:, m] = divide(whole, self._norm[m, pairs.latent])
        dots = pairs.dots.reshape(-1, 8)
        new = DocumentShares(pairs.document, pairs.latent, pairs.power, shares, dots)
        if self._held is not None:
            new = _sum_duplicates(
                DocumentShares(*map(np.concatenate, zip(self._held, new, strict=True))), self._n
            )
        if not len(new.document):
            return new
        last = new.document == new.document[-1]
        self._held = DocumentShares(*(part[last] for part in new))
        return DocumentShares(*(part[~last] for part in new))

    def finish(self) -> DocumentShares | None:
        """The document still held back."""
        held, self._held = self._held, None
        return held


def _sum_duplicates(rows: DocumentShares, n_latents: int) -> DocumentShares:
    """One row a (document, latent), in order of first appearance of the document."""
    _, first, run = np.unique(rows.document, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    key = rank[run] * n_latents + rows.latent
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    columns = np.concatenate([rows.power[:, None], rows.shares, rows.dots], axis=1)
    total = np.zeros((len(first), columns.shape[1]))
    add_rows(total, where, columns)
    return DocumentShares(rows.document[first], rows.latent[first], total[:, 0], total[:, 1:3], total[:, 3:])


class DocumentMoments:
    """First and second moments over documents of F latents' shares; float64."""

    def __init__(self, n_latents: int) -> None:
        self.n = np.zeros(n_latents, dtype=np.int64)
        self.totals = np.zeros((2, n_latents))
        """S^m."""
        self.squares = np.zeros((3, n_latents))
        """sum over documents of s^b s^b, s^b s^t, s^t s^t."""

    def update(self, rows: DocumentShares) -> None:
        """Add whole documents."""
        base, tuned = rows.shares.T
        np.add.at(self.n, rows.latent, 1)
        for m, share in enumerate((base, tuned)):
            np.add.at(self.totals[m], rows.latent, share)
        for c, product in enumerate((base * base, base * tuned, tuned * tuned)):
            np.add.at(self.squares[c], rows.latent, product)

    def merge(self, other: DocumentMoments) -> None:
        """Add the moments of other documents."""
        for name in ("n", "totals", "squares"):
            getattr(self, name)[...] += getattr(other, name)

    def repeated(self, times: float) -> DocumentMoments:
        """The moments of `times` as many documents of the same kind."""
        found = DocumentMoments(len(self.n))
        found.n[...] = np.rint(times * self.n).astype(np.int64)
        for name in ("totals", "squares"):
            getattr(found, name)[...] = times * getattr(self, name)
        return found

    def over_ranks(self) -> None:
        """Add up what every rank's documents gave. Collective."""
        distributed.add_up(self.n, self.totals, self.squares)

    def log_ratio(self) -> np.ndarray:
        """(F,): ln(|S^t| / |S^b|), within +-LOG_LIMIT; NaN where neither model has anything."""
        base, tuned = np.abs(self.totals)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.clip(np.log(tuned) - np.log(base), -LOG_LIMIT, LOG_LIMIT)
            return found

    def covariance(self) -> np.ndarray:
        """(3, F): variance of S^b, covariance, variance of S^t over documents; NaN with fewer than two."""
        return covariance_of_sums(self.totals, self.squares, self.n)

    def effective_documents(self) -> np.ndarray:
        """(F,): how many equal documents would tell as much (Kish 1965), of the model with more; 0 of none."""
        found = [effective_number(self.totals[m], self.squares[2 * m]) for m in (0, 1)]
        out: np.ndarray = np.minimum(np.nan_to_num(np.fmax(*found)), self.n)
        return out


def fieller_interval(moments: DocumentMoments, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(F,) low and high end of the interval of log_ratio (Fieller 1954); NaN with fewer than two documents."""
    ends = magnitude_interval(moments.totals, moments.covariance(), moments.n, level)
    with np.errstate(divide="ignore"):
        low, high = (np.clip(np.log(end), -LOG_LIMIT, LOG_LIMIT) for end in ends)
    return low, high


def margin_p_values(moments: DocumentMoments, margin: float, reference: float = 0.0) -> np.ndarray:
    """(F,) two-sided p-value of "the change is no larger than the margin": |log_ratio - reference| <= margin.

    Twice the smaller of the two one-sided p-values at the margin's edges. NaN with fewer than two documents.
    """
    (base, tuned), squares, covariance = moments.totals, moments.squares, moments.covariance()
    up = p_no_larger(tuned, base, squares[2], covariance, moments.n, np.exp(reference + margin))
    down = p_no_larger(base, tuned, squares[0], covariance[::-1], moments.n, np.exp(-(reference - margin)))
    found: np.ndarray = np.minimum(1.0, 2 * np.minimum(up, down))
    return found
