"""Did a latent's direction turn? Each model's own direction from the text, and a test of the cosine between them.

For latent j, model m and document i let s_i^m = sum f_tj y_t^m over the document's tokens, y = x - x_hat + f_j d_j^m
(the error target of latent scaling, all of its coordinates). The least-squares direction of latent j in model m is
v^m = sum_i s_i^m / sum f^2, so that the cosine of v^b and v^t is that of the sums S^m = sum_i s_i^m. What is random in
a document's s_i would lower it (it adds to both lengths) or, where both models share it, raise it. So only products of
different documents count:

    U_mn = sum_{i != k} s_i^m . s_k^n = S^m . S^n - sum_i s_i^m . s_i^n,    cosine = U_bt / sqrt(U_bb U_tt)

each without bias (a U-statistic; Hoeffding 1948), and over sum_{i != k} c_i c_k, c_i = sum f^2 in document i, so that
they are products of the directions v. Leaving out each document in turn (jackknife: Efron and Stein 1981) gives the
variances of U_bt and of M = sqrt(U_bb U_tt), Fieller's interval of their ratio and the p-value of "the cosine is no
lower than the margin", a t-test of U_bt - margin M.

Two passes over the documents' sums: one for S, one for what leaving out a document changes. They hold 2 K d numbers for
K candidates; the sums themselves are kept where they take under 256 MB, else they are made again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.vocabulary import REDIRECTED, UNCERTAIN, UNCHANGED
from mneme.attribution.directions import DirectionReader, Directions
from mneme.attribution.geometry import BASE, TUNED, Geometry
from mneme.attribution.scatter import add_rows
from mneme.crosscoder.codes import CodeCache, KeptCodes
from mneme.crosscoder.protocols import SparseEncoder
from mneme.harvest.protocols import Activations
from mneme.stats.fdr import false_discovery_q
from mneme.stats.fieller import signed_interval
from mneme.stats.moments import effective_number

_BB, _BT, _TT = range(3)
_KEPT_BYTES = 2**28


class Turns(NamedTuple):
    """What the text says of K latents' directions; NaN where nothing is known."""

    latent: np.ndarray
    """(K,) int64."""
    cosine: np.ndarray
    """(K,): of the two models' directions; above 1 by chance."""
    low: np.ndarray
    """(K,): its interval's ends, within [-1, 1]; NaN where the direction of either model may be nothing."""
    high: np.ndarray
    p: np.ndarray
    """(K,): of "the cosine is no lower than the margin"."""
    n: np.ndarray
    """(K,) int64: documents."""


def measure_turns(
    crosscoder: SparseEncoder,
    geometry: Geometry,
    cache: Activations,
    candidates: np.ndarray,
    margin: float,
    *,
    codes: CodeCache | None = None,
    level: float = 0.95,
    documents: np.ndarray | None = None,
    swapped: np.ndarray | None = None,
    batch_size: int = 2048,
    progress: Progress = NULL_PROGRESS,
) -> Turns:
    """Test the directions of the candidates, (K,) latents, against a cosine.

    codes: the cache's, read instead of encoding anew. documents: (D,) bool, by number: those that count; None: all.
    swapped: documents in which base and tuned change places (a null: both directions are then the same mixture).
    Collective: each rank reads documents of its own.
    """
    K, d = len(candidates), geometry.decoder.shape[2]
    n, power = np.zeros(K), np.zeros((2, K))
    total, own = np.zeros((K, 2, d)), np.zeros((3, K))
    shifts, squares = np.zeros((2, K)), np.zeros((3, K))
    if K:
        encoder = crosscoder if codes is None else KeptCodes(codes)
        read = DirectionReader(encoder, geometry, cache, candidates, documents, swapped, batch_size, progress)
        kept: list[Directions] | None = []
        for rows in read:
            add_rows(total.reshape(K, -1), rows.place, rows.vector.reshape(len(rows.place), 2 * d))
            np.add.at(n, rows.place, 1)
            np.add.at(power[0], rows.place, rows.power)
            np.add.at(power[1], rows.place, rows.power**2)
            for c, product in enumerate(_products(rows.vector, rows.vector)):
                np.add.at(own[c], rows.place, product)
            if kept is not None:
                kept.append(rows)
                kept = kept if sum(each.vector.nbytes for each in kept) < _KEPT_BYTES else None
        distributed.add_up(total, n, power, own)
        whole = _per_power(np.stack(_products(total, total)) - own, *power)
        for rows in read if kept is None else kept:
            shift = _without(rows, total, own, power) - np.stack([whole[_BT], _lengths(whole)])[:, rows.place]
            np.add.at(shifts[0], rows.place, shift[0])
            np.add.at(shifts[1], rows.place, shift[1])
            for c, product in enumerate((shift[1] ** 2, shift[1] * shift[0], shift[0] ** 2)):
                np.add.at(squares[c], rows.place, product)
        distributed.add_up(shifts, squares)
    else:
        whole = np.zeros((3, K))
    return _judge(candidates, whole, n, shifts, squares, effective_number(*power), margin, level)


def false_discovery_over(p: np.ndarray, turns: Turns | None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """q-values over all tests that are shown: of strength, p (F,), and of direction.

    Returns the (F,) q-values of strength and the columns turn_cosine, turn_low, turn_high, turn_p, turn_q of table
    `latents`; NaN where nothing was tested.
    """
    names = ("cosine", "low", "high", "p")
    columns = {f"turn_{name}": np.full(len(p), np.nan) for name in (*names, "q")}
    if turns is None:
        return false_discovery_q(p), columns
    q = false_discovery_q(np.concatenate([p, turns.p]))
    for name in names:
        columns[f"turn_{name}"][turns.latent] = getattr(turns, name)
    columns["turn_q"][turns.latent] = q[len(p) :]
    return q[: len(p)], columns


def with_redirected(latents: pd.DataFrame, margin: float, fdr: float) -> np.ndarray:
    """(F,) verdicts: redirected where strength is not known to have changed, and the direction is known to have turned.

    latents: verdict, turn_high, turn_q.
    """
    turned = (latents["turn_high"] < margin) & (latents["turn_q"] < fdr)
    open_ = latents["verdict"].isin((UNCHANGED, UNCERTAIN))
    found: np.ndarray = np.where(turned & open_, REDIRECTED, latents["verdict"])
    return found


def _products(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R,) each: a^b . b^b, the mean of a^b . b^t and a^t . b^b, a^t . b^t; a, b: (R, 2, d)."""
    dot = np.einsum("rmd,rnd->rmn", a, b, optimize=True)
    return dot[:, BASE, BASE], (dot[:, BASE, TUNED] + dot[:, TUNED, BASE]) / 2, dot[:, TUNED, TUNED]


def _without(rows: Directions, total: np.ndarray, own: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(2, R): U_bt and M without a row's document.

    total: (K, 2, d) S; own: (3, K) sum s_i . s_i; power: (2, K) sum c and sum c c.
    """
    rest = total[rows.place] - rows.vector
    alone = np.stack(_products(rows.vector, rows.vector))
    left = np.stack(_products(rest, rest)) - (own[:, rows.place] - alone)
    left = _per_power(left, power[0, rows.place] - rows.power, power[1, rows.place] - rows.power**2)
    return np.stack([left[_BT], _lengths(left)])


def _per_power(sums: np.ndarray, total: np.ndarray, square: np.ndarray) -> np.ndarray:
    """(3, n) sums over pairs of documents, over sum_{i != k} c_i c_k; total, square: (n,) sum c and sum c c."""
    pairs = total**2 - square
    # of one document nothing but rounding is left
    return divide(sums, np.where(pairs > 1e-9 * total**2, pairs, 0))


def _lengths(u: np.ndarray) -> np.ndarray:
    """M: the root of U_bb U_tt; 0 where either is not above 0."""
    found: np.ndarray = np.sqrt(np.maximum(u[_BB], 0) * np.maximum(u[_TT], 0))
    return found


def _judge(
    candidates: np.ndarray,
    whole: np.ndarray,
    n: np.ndarray,
    shifts: np.ndarray,
    squares: np.ndarray,
    effective: np.ndarray,
    margin: float,
    level: float,
) -> Turns:
    """Interval and p-value; none with fewer than three documents. shifts, squares: sums over left out documents."""
    enough = n > 2
    units = np.where(enough, n, np.nan).astype(float)
    top, bottom = whole[_BT], _lengths(whole)
    moved, long = shifts
    centred = squares - np.stack([long * long, long * moved, moved * moved]) / units
    covariance = centred * (units - 1) / units
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(bottom > 0, top / bottom, np.nan)
        # few documents may hold most of a latent: their effective number gives the degrees of freedom
        freedom = np.clip(np.minimum(effective, units) - 1, 0.1, None)
        variance = covariance[2] - 2 * margin * covariance[1] + margin**2 * covariance[0]
        t = (top - margin * bottom) / np.sqrt(np.maximum(variance, 0))
        p = stats.t.cdf(t, freedom)
    p = np.where(bottom > 0, p, 1.0)
    low, high = signed_interval(np.stack([bottom, top]), covariance, freedom, level)
    return Turns(
        candidates,
        np.where(enough, cosine, np.nan),
        np.where(enough, np.clip(low, -1, 1), np.nan),
        np.where(enough, np.clip(high, -1, 1), np.nan),
        np.where(enough & np.isfinite(p), p, np.nan),
        n.astype(np.int64),
    )
