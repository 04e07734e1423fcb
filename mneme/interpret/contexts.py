"""Contexts of each latent: windows of tokens around its strongest activations and around each tenth of them.

Quantile 0 holds the top contexts, one a document. Quantiles 1..10 are true deciles, by rank among the
latent's firings (of a uniform sample of them, where there are more than the sample holds), not equal widths
of activation; in each, documents that give no other context come first.

Documents, not contexts, are split into 'train' (an explainer may see them) and 'test' (they score its label),
by a hash: no text is ever on both sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa

from mneme._util.errors import RunError
from mneme._util.grouping import group_entries
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.deciles import decile_firings
from mneme.interpret.selection import (
    Codes,
    plain_shards,
    rank_in_group,
    select_firings,
    uniform_hash,
)
from mneme.interpret.tokens import TokenTexts

_FEW_DOCUMENTS = 200  # below, pieces of _PIECE tokens count as documents when contexts are chosen
_PIECE = 256
_BEFORE = 2 / 3  # share of a window before its strongest token: a causal model has read only that


class Contexts(NamedTuple):
    """C windows of at most w tokens; sorted by latent, then top contexts, then deciles 10 .. 1."""

    latent: np.ndarray
    rank: np.ndarray
    quantile: np.ndarray
    test: np.ndarray
    """(C,) bool: of a held-out document."""
    row: np.ndarray
    """(C,) index in the cache of the token it was chosen for."""
    document: np.ndarray
    position: np.ndarray
    start: np.ndarray
    length: np.ndarray
    """(C,) tokens in the window."""
    tokens: np.ndarray
    """(C, w) int32 ids, -1 past the window's end."""
    activations: np.ndarray
    """(C, w) float32."""
    rows: np.ndarray
    """(C, w) int64: index in the cache, -1 for tokens that were left out."""
    n_active: np.ndarray
    """(F,) firings of every latent, in all of the text."""

    def take(self, chosen: np.ndarray) -> Contexts:
        """A subset of the windows."""
        return Contexts._make([*(column[chosen] for column in self[:-1]), self.n_active])


def find_contexts(
    codes: Codes,
    cache: Texts,
    n_latents: int,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
) -> Contexts:
    """Choose the contexts of all latents and read the activations in them: two passes over the codes."""
    unit = cache.document.astype(np.int64)
    if cache.n_documents < _FEW_DOCUMENTS:
        pieces = unit * (int(cache.position.max(initial=0)) + 1) + cache.position // _PIECE
        unit = np.unique(pieces, return_inverse=True)[1]
    chosen = select_firings(
        codes, unit, n_latents, top=config.top_contexts, seed=config.seed, progress=progress
    )
    deciles, quantile = decile_firings(chosen.sample, chosen.top, unit, n_latents, config)
    latent = np.concatenate([chosen.top.latent, deciles.latent])
    row = np.concatenate([chosen.top.row, deciles.row])
    value = np.concatenate([chosen.top.value, deciles.value])
    quantile = np.concatenate([np.zeros(len(chosen.top.latent), dtype=np.int64), quantile])
    # Quantile 0 sorts as 11: before the strongest decile.
    order = np.lexsort((row, -value, -np.where(quantile == 0, 11, quantile), latent))
    latent, row, quantile = latent[order], row[order], quantile[order]
    document = cache.document[row].astype(np.int64)
    position = cache.position[row].astype(np.int64)
    start, length, tokens = _windows(cache, document, position, config.window)
    first_row, rows = _rows_of(cache, document, start, length, config.window)
    activations = _activations(codes, latent, first_row, rows)
    return Contexts(
        latent=latent,
        rank=rank_in_group(latent * 11 + quantile),
        quantile=quantile,
        test=is_test(document, config),
        row=row,
        document=document,
        position=position,
        start=start,
        length=length,
        tokens=tokens,
        activations=activations,
        rows=rows,
        n_active=chosen.n_active,
    )


def is_test(document: np.ndarray, config: InterpretConfig) -> np.ndarray:
    """Whether each document is held out: the same for every latent, every run with this seed."""
    return uniform_hash(config.seed + 1, document.astype(np.int64)) < config.test_share


def contexts_table(contexts: Contexts, cache: Texts, texts: TokenTexts) -> pa.Table:
    """The rows of the run's `contexts` table."""
    inside = contexts.tokens >= 0
    offsets = pa.array(np.r_[0, np.cumsum(contexts.length)].astype(np.int32))
    tokens = contexts.tokens[inside]
    ids = np.flatnonzero(np.bincount(tokens))
    place = np.zeros(int(tokens.max(initial=0)) + 1, dtype=np.int32)
    place[ids] = np.arange(len(ids))
    strings = pa.array(texts.texts(ids), pa.string()).take(pa.array(place[tokens]))
    rows = contexts.rows[inside]

    def per_token(column: np.ndarray) -> pa.Array:
        values = np.where(rows >= 0, column[rows], np.nan).astype(np.float32)
        return pa.ListArray.from_arrays(offsets, pa.array(values, mask=np.isnan(values)))

    return pa.table(
        {
            "latent": contexts.latent.astype(np.int32),
            "rank": contexts.rank.astype(np.int32),
            "quantile": contexts.quantile.astype(np.int32),
            "split": pa.array(["train", "test"]).take(pa.array(contexts.test.astype(np.int8))),
            "document": contexts.document.astype(np.int32),
            "position": contexts.position.astype(np.int32),
            "start": contexts.start.astype(np.int32),
            "tokens": pa.ListArray.from_arrays(offsets, strings),
            "activations": pa.ListArray.from_arrays(offsets, pa.array(contexts.activations[inside])),
            "kl": per_token(cache.kl),
            "nll_change": per_token(cache.nll_tuned - cache.nll_base),
        }
    )


def read_contexts(table: pa.Table, cache: Texts, n_active: np.ndarray) -> Contexts:
    """The contexts that `contexts_table` made rows of, exactly as they were found.

    `table`: rows of the run's `contexts` table, in the order they were written in: columns latent, rank, quantile,
    split, document, position, start, activations. `n_active` (F,): firings of every latent. Raises RunError
    when they were found in other text.
    """
    latent, rank, quantile, document, position, start = (
        table[name].to_numpy().astype(np.int64)
        for name in ("latent", "rank", "quantile", "document", "position", "start")
    )
    lists = table["activations"].combine_chunks()
    length = lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    window = int(length.max(initial=1))
    fits = document.max(initial=-1) < cache.n_documents
    if fits:
        placed, sizes, tokens = _windows(cache, document, position, window)
        fits = np.array_equal(placed, start) and np.array_equal(sizes, length)
    if not fits:
        raise RunError("the contexts are of other text than the activations: `mneme run` finds them again")
    _, rows = _rows_of(cache, document, start, length, window)
    activations = np.zeros(tokens.shape, dtype=np.float32)
    activations[tokens >= 0] = lists.flatten().to_numpy()
    return Contexts(
        latent=latent,
        rank=rank,
        quantile=quantile,
        test=table["split"].to_numpy() == "test",
        row=rows[np.arange(len(rows)), position - start],
        document=document,
        position=position,
        start=start,
        length=length,
        tokens=tokens,
        activations=activations,
        rows=rows,
        n_active=n_active,
    )


def _windows(
    cache: Texts, document: np.ndarray, position: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and length of each window, and its tokens (C, w), -1 past the end."""
    used, which = np.unique(document, return_inverse=True)
    texts = [np.asarray(cache.document_tokens(int(d)), dtype=np.int32) for d in used]
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    flat = np.concatenate([*texts, np.zeros(1, dtype=np.int32)])
    size = sizes[which]
    start = np.clip(position - int(window * _BEFORE), 0, np.maximum(size - window, 0))
    length = np.minimum(size - start, window)
    tokens = np.empty((len(document), window), dtype=np.int32)
    _cut((np.cumsum(sizes) - sizes)[which] + start, length, flat, tokens)
    return start, length, tokens


@numba.njit(nogil=True, cache=True)
def _cut(
    first: np.ndarray, length: np.ndarray, flat: np.ndarray, tokens: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Of each window its tokens, from `flat` on, and -1 past its end."""
    for w in range(len(first)):
        for column in range(tokens.shape[1]):
            tokens[w, column] = flat[first[w] + column] if column < length[w] else -1


def _rows_of(
    cache: Texts, document: np.ndarray, start: np.ndarray, length: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cache rows of the windows' tokens (C, w), -1 for those left out; and each window's first row."""
    stride = int(cache.position.max(initial=0)) + window + 2
    place = cache.document.astype(np.int64) * stride + cache.position  # ascending
    wanted = document * stride + start
    first = np.searchsorted(place, wanted)
    rows = np.full((len(wanted), window), -1, dtype=np.int64)
    _walk(place, wanted, first, length, rows)
    return first, rows


@numba.njit(nogil=True, cache=True)
def _walk(
    place: np.ndarray, wanted: np.ndarray, first: np.ndarray, length: np.ndarray, rows: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Of each window the places from `wanted` on that are there, from the row `first` on."""
    for w in range(len(first)):
        at = first[w]
        for column in range(length[w]):
            if at < len(place) and place[at] == wanted[w] + column:
                rows[w, column] = at
                at += 1


def _activations(codes: Codes, latent: np.ndarray, first_row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What each window's latent does at the window's tokens, (C, w)."""
    out = np.zeros(rows.shape, dtype=np.float32)
    for first, row, of_latent, value, _ in plain_shards(codes):
        n_latents = int(max(latent.max(initial=0), of_latent.max(initial=0))) + 1
        order, starts = group_entries(of_latent, n_latents)  # rows come in order
        _read_off(starts, row[order] + first, value[order], latent, first_row, rows, out)
    return out


@numba.njit(nogil=True, cache=True)
def _read_off(
    starts: np.ndarray,
    row: np.ndarray,
    value: np.ndarray,
    latent: np.ndarray,
    first_row: np.ndarray,
    rows: np.ndarray,
    out: np.ndarray,
) -> None:  # pragma: no cover - compiled
    """Of each window the entries of its latent, grouped and each group's rows ascending, that lie on its rows.

    rows (C, w): ascending, -1 for tokens that were left out.
    """
    width = rows.shape[1]
    for w in range(len(latent)):
        i, end = starts[latent[w]], starts[latent[w] + 1]
        high = end
        while i < high:  # the first entry not before the window
            middle = (i + high) // 2
            if row[middle] < first_row[w]:
                i = middle + 1
            else:
                high = middle
        column = 0
        while i < end and column < width:
            if rows[w, column] < row[i]:
                column += 1
            else:
                if rows[w, column] == row[i]:
                    out[w, column] = value[i]
                i += 1
