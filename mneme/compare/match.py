"""Which latent of one dictionary is which of another's: by decoders, by firing on the same text, or by labels.

decoder: encoder and decoder cosine of both, one to one (mneme/attribution/stability.py); for dictionaries that
    read the same layer of the same two models. Agreed from 0.7 on.
firing: phi correlation of the 0/1 firing indicators over the tokens both runs read, one to one; for any two
    dictionaries that read the same tokens, of other tunings, layers or widths. Agreed from 0.5 on. Of two tunings'
    changed latents the decoders differ by what was changed: of the 20 of one RMU of biology, decoders found none in
    another seed's, firing 13.
label: cosine of the labels' sentence embeddings, each latent's nearest; says that two are about the same thing, not
    that they are the same. Agreed from 0.8 on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from mneme.interpret.selection import Codes, plain_shards

AGREED = {"decoder": 0.7, "firing": 0.5, "label": 0.8}
_DENSE_LIMIT = 6000
_MAX_PAIRS = 1.5e8  # joint firings counted at most; above, an even sample of the tokens


class Matches(NamedTuple):
    """Matched pairs of latents, M of them."""

    one: np.ndarray
    other: np.ndarray
    similarity: np.ndarray
    """(M,) float: of the method's kind."""


def by_decoder(one: Any, other: Any, live: np.ndarray, other_live: np.ndarray) -> Matches:
    """Of two crosscoders of one width: the smaller of encoder and decoder cosine is maximised in sum."""
    from mneme.attribution.stability import match_latents

    found = match_latents(one, other, live)
    similarity = np.minimum(found.encoder_cosine, found.decoder_cosine)
    at = np.flatnonzero((found.partner >= 0) & other_live[np.maximum(found.partner, 0)])
    return Matches(at, found.partner[at], similarity[at])


def by_firing(one: Codes, other: Codes, n: tuple[int, int], rows: tuple[np.ndarray, np.ndarray]) -> Matches:
    """Of two codes of F = `n` latents; token `rows[0][i]` of one is token `rows[1][i]` of the other."""
    fires = [_indicators(codes, f, row) for codes, f, row in zip((one, other), n, rows, strict=True)]
    tokens = len(rows[0])
    per_token = (fires[0].nnz / max(tokens, 1)) * (fires[1].nnz / max(tokens, 1))
    step = max(1, int(np.ceil(tokens * per_token / _MAX_PAIRS)))
    fires = [part[::step] for part in fires]
    counts = [np.asarray(part.sum(axis=0)).ravel() for part in fires]
    live = [np.flatnonzero(count) for count in counts]
    if not len(live[0]) or not len(live[1]):
        return Matches(*(np.zeros(0, dtype=int),) * 2, np.zeros(0))
    used = max(fires[0].shape[0], 1)
    joint = (fires[0][:, live[0]].T @ fires[1][:, live[1]]).tocoo()
    rate = [count[alive] / used for count, alive in zip(counts, live, strict=True)]
    deviation = [np.sqrt(np.maximum(r * (1 - r), 1e-20)) for r in rate]
    phi = (joint.data / used - rate[0][joint.row] * rate[1][joint.col]) / (
        deviation[0][joint.row] * deviation[1][joint.col]
    )
    table = sparse.csr_array((phi, (joint.row, joint.col)), shape=(len(live[0]), len(live[1])))
    i, k = _assign(table)
    value = np.asarray(table[i, k]).ravel()
    kept = value > 0
    return Matches(live[0][i[kept]], live[1][k[kept]], value[kept])


def by_label(one: np.ndarray, other: np.ndarray, latents: tuple[np.ndarray, np.ndarray]) -> Matches:
    """Of the labels' embeddings (L, e), l2-normalised, of latents (L,): each of `one` with its nearest."""
    if not len(one) or not len(other):
        return Matches(*(np.zeros(0, dtype=int),) * 2, np.zeros(0))
    cosine = one @ other.T
    best = cosine.argmax(1)
    return Matches(latents[0], latents[1][best], cosine[np.arange(len(one)), best].astype(float))


def shared_rows(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two ActivationCaches that are the same token of the same documents; none when the texts differ.

    Two runs leave out other sinks at other layers, so places are compared, not rows.
    """
    none = np.zeros(0, dtype=np.int64)
    n = min(one.n_documents, other.n_documents)
    for document in range(0, n, max(1, n // 20)):
        if not np.array_equal(one.document_tokens(document), other.document_tokens(document)):
            return none, none
    places: list[Any] = [
        cache.document.astype(np.int64) << 32 | cache.position.astype(np.int64) for cache in (one, other)
    ]
    _, a, b = np.intersect1d(places[0], places[1], assume_unique=True, return_indices=True)
    same = np.asarray(one.token)[a] == np.asarray(other.token)[b]
    return (a, b) if same.all() else (none, none)


def _indicators(codes: Codes, n_latents: int, rows: np.ndarray) -> Any:
    """(len(rows), F) sparse 0/1: which latents fire on these tokens."""
    found = [(first + row, latent) for first, row, latent, _, _ in plain_shards(codes)]
    row, latent = (np.concatenate([part[c] for part in found] or [np.zeros(0, int)]) for c in (0, 1))
    size = int(max(rows.max(initial=-1), row.max(initial=-1))) + 1
    whole = sparse.csr_array((np.ones(len(row), dtype=np.float32), (row, latent)), shape=(size, n_latents))
    return whole[rows]


def _assign(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs of a sparse table of similarities, of the largest sum; above 6,000 mutual nearest."""
    if max(table.shape) <= _DENSE_LIMIT:
        return linear_sum_assignment(table.toarray(), maximize=True)
    best = np.asarray(table.argmax(axis=1)).ravel()
    back = np.asarray(table.argmax(axis=0)).ravel()
    i = np.flatnonzero(back[best] == np.arange(len(best)))
    return i, best[i]
