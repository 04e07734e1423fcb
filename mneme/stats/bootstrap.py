"""Bootstraps: units drawn again, by count or by weight, and intervals from what comes of it.

Text of one document hangs together, so documents, not tokens, are what is drawn again; a statistic of several columns
draws the same ones for all, so that what they share cancels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

_POISSON_CDF = np.cumsum(np.exp(-1.0) / np.array([1, 1, 2, 6, 24, 120, 720, 5040, 40320]))
_CHUNK = 4096  # units whose weights are drawn at once


class Ratio(NamedTuple):
    """(C,) each: a ratio of sums and the ends of its interval; NaN where there is none."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def redraws(n: int, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """(R, n) int64: indices of n units drawn with replacement, a row a replicate (Efron 1979)."""
    return generator.integers(n, size=(replicates, n))


def poisson_weights(units: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(D, R) float32 Poisson(1) weights of units (D,), a pure function of (seed, unit, replicate).

    Sums over units can then be made in any order, on any machine, and just add up (Hanley and MacGibbon 2006, "Creating
    non-parametric bootstrap samples using Poisson frequencies"; Chamandy et al. 2012).
    """
    counter = units.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    counter = counter + np.arange(1, replicates + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)
    bits = _splitmix64(_splitmix64(counter) ^ np.uint64(seed & 0xFFFFFFFFFFFFFFFF))
    uniform = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.searchsorted(_POISSON_CDF, uniform, side="right").astype(np.float32)


def exponential_weights(n: int, replicates: int, seed: int = 0) -> np.ndarray:
    """(n, 1 + R) float32: in column 0 all units count alike, in the others by chance, exponentially.

    The Bayesian bootstrap (Rubin 1981), which no unit can lose entirely.
    """
    drawn = np.random.default_rng(seed).standard_exponential((n, replicates), dtype=np.float32)
    return np.concatenate([np.ones((n, 1), dtype=np.float32), drawn], axis=1)


def percentile_interval(replicates: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(...) low and high end of the middle `level` of replicates (..., R), in their unit.

    Replicates that are not finite (nothing was drawn) are left out; NaN where they are half or more: a statistic
    that one or two units hold up has many, and no interval then.
    """
    known = np.isfinite(replicates)
    enough = known.sum(-1) > replicates.shape[-1] / 2
    low, high = (np.full(enough.shape, np.nan) for _ in range(2))
    if enough.any():
        quantile = np.quantile if known[enough].all() else np.nanquantile
        low[enough], high[enough] = quantile(replicates[enough], [(1 - level) / 2, (1 + level) / 2], axis=-1)
    return low, high


def mean_interval(values: np.ndarray, drawn: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean of values (n,); drawn: (R, n) of `redraws`. NaN of nothing."""
    low, high = percentile_interval(values[drawn].mean(axis=1), level) if len(values) else (np.nan, np.nan)
    return float(low), float(high)


def ratio_intervals(
    numerator: sparse.csr_array, denominator: sparse.csr_array, *, replicates: int, level: float, seed: int
) -> Ratio:
    """Sum over units of numerator / sum of denominator, both (D, C), with percentile intervals.

    A replicate weights both sums with the same Poisson(1) draws.
    """
    top, bottom = _drawn_sums(numerator, denominator, replicates, seed)
    drawn = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
    return Ratio(_ratio(numerator, denominator), *percentile_interval(drawn, level))


def departures(numerator: sparse.csr_array, denominator: sparse.csr_array) -> np.ndarray:
    """(P,): how far each unit's ratio lies from that of its column, the one that holds most of its denominator.

    numerator, denominator: (D, C); units of nothing are left out.
    """
    value = _ratio(numerator, denominator)
    whole = denominator.toarray()
    own = whole.argmax(1)
    units = np.flatnonzero(whole.max(1, initial=0) > 0)
    column = own[units]
    top = np.asarray(numerator.toarray()[units, column])
    found: np.ndarray = top / whole[units, column] - value[column]
    return found


def unseen_unit_intervals(
    numerator: sparse.csr_array,
    denominator: sparse.csr_array,
    apart: np.ndarray,
    *,
    replicates: int,
    level: float,
    seed: int,
) -> Ratio:
    """As `ratio_intervals`, of few units with heavy tails: each replicate also draws one unit that was not seen.

    Where one unit in twenty moves a hundred times as far as the others, six units mostly hold none of them, and drawing
    these six again never will. The unseen unit departs from its column's ratio by one of `apart` (P,), as units of all
    columns depart from theirs (`departures`); it is as large as the column's units on average over their size, and
    weighs Exponential(1): a bootstrap from a Dirichlet process whose prior counts for one unit (Muliere, Secchi 1996,
    "Bayesian nonparametric predictive inference and bootstrap techniques", Annals of the Institute of Statistical
    Mathematics 48).

    The interval holds the ratio. How well it covers: benchmarks/interval_coverage.py.
    """
    top, bottom = _drawn_sums(numerator, denominator, replicates, seed)
    value = _ratio(numerator, denominator)
    whole = np.asarray(denominator.sum(0)).ravel()
    squares = np.asarray(denominator.multiply(denominator).sum(0)).ravel()
    size = np.divide(squares, whole, out=np.full(len(whole), np.nan), where=whole > 0)[:, None]
    generator = np.random.default_rng(seed)
    weight = generator.standard_exponential(top.shape) * size
    unseen = value[:, None] + (generator.choice(apart, size=top.shape) if len(apart) else 0.0)
    drawn = (top + weight * unseen) / (bottom + weight)
    low, high = percentile_interval(drawn, level)
    return Ratio(value, np.minimum(low, value), np.maximum(high, value))


def _ratio(numerator: sparse.csr_array, denominator: sparse.csr_array) -> np.ndarray:
    """(C,): sum over units / sum over units; NaN of nothing."""
    top, bottom = (np.asarray(each.sum(0)).ravel() for each in (numerator, denominator))
    found: np.ndarray = np.divide(top, bottom, out=np.full(len(bottom), np.nan), where=bottom > 0)
    return found


def _drawn_sums(
    numerator: sparse.csr_array, denominator: sparse.csr_array, replicates: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(C, R) both: the sums over units of numerator and denominator, weighted with the same Poisson(1) draws."""
    n_units, n_columns = numerator.shape
    top = np.zeros((n_columns, replicates))
    bottom = np.zeros((n_columns, replicates))
    for start in range(0, n_units, _CHUNK):
        rows = slice(start, min(start + _CHUNK, n_units))
        draws = poisson_weights(np.arange(rows.start, rows.stop), replicates, seed).astype(np.float64)
        top += numerator[rows].T @ draws
        bottom += denominator[rows].T @ draws
    return top, bottom


def _splitmix64(z: np.ndarray) -> np.ndarray:
    """Steele, Lea and Flood 2014: a bijective mixer of 64-bit integers (wraps around on purpose)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: np.ndarray = z ^ (z >> np.uint64(31))
    return found
