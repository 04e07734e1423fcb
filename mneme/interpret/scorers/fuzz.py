"""Fuzzing: are the marked words of a window those that the latent fires on?

In each window the strong words (a token at 0.3 of the window's maximum or more) are marked, and in a copy of it as
many other words, on which the latent is silent. The reader sees the marked words only, each by its own embedding:
so a label of a subject, right about the text, may fail here, and one that names the words can't fail.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.contexts import Contexts
from mneme.interpret.corpus_words import Words
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.scorers.scoring_set import LOWEST_DECILE, padded
from mneme.interpret.scorers.text_fit import FORM_NAMES
from mneme.interpret.selection import rank_in_group, uniform_hash

PER_SIDE = 8  # windows a latent and side
_STRONG = 0.3
_MOST_WORDS = 5  # marked in a window
_EMBEDDED = 20_000  # words; rarer ones are known by their letters only


class Fuzz(NamedTuple):
    """I items: windows with marked words; of each two, the first has the latent's own, the second others."""

    latent: np.ndarray
    test: np.ndarray
    document: np.ndarray
    position: np.ndarray
    """(I,) of the window's strongest token."""
    marked: sparse.csr_matrix
    """(I, V) 0/1: words that are marked."""
    items: dict[bool, np.ndarray]
    """Train and test: (F, n) even items of each latent; item + 1 has the other words marked."""
    vectors: np.ndarray
    """(V, e) embeddings of words, 0 for those that have none."""


def set_fuzz(
    contexts: Contexts,
    words: Words,
    encoder: SentenceEncoder,
    seed: int,
    progress: Progress = NULL_PROGRESS,
) -> Fuzz:
    """Mark words in a few windows of each latent and side, and embed the words."""
    usable = np.flatnonzero((contexts.quantile == 0) | (contexts.quantile >= LOWEST_DECILE))
    group = contexts.latent[usable] * 2 + contexts.test[usable]
    order = np.argsort(group, kind="stable")
    usable = np.sort(usable[order][rank_in_group(group[order]) < PER_SIDE])
    own, other = _marks(contexts.take(usable), words, seed)
    both = np.intersect1d(own[0], other[0])
    n = len(both)
    place = np.full(len(usable), -1, dtype=np.int64)
    place[both] = np.arange(n)
    rows, columns = [], []
    for odd, (window, word) in enumerate((own, other)):
        here = place[window] >= 0
        rows.append(2 * place[window[here]] + odd)
        columns.append(word[here])
    index = np.concatenate(rows), np.concatenate(columns)
    marked = sparse.csr_matrix(
        (np.ones(len(index[0]), np.float32), index), shape=(2 * n, len(words.vocabulary))
    )
    marked.sum_duplicates()
    marked.data[:] = 1
    used = usable[both]
    latent, test = contexts.latent[used], contexts.test[used]
    items = {
        side: padded(latent[test == side], 2 * np.flatnonzero(test == side), len(contexts.n_active), PER_SIDE)
        for side in (False, True)
    }

    def twice(column: np.ndarray) -> np.ndarray:
        return np.repeat(column[used], 2)

    return Fuzz(
        twice(contexts.latent),
        twice(contexts.test),
        twice(contexts.document),
        twice(contexts.position),
        marked,
        items,
        _word_vectors(marked, words.vocabulary, encoder, progress),
    )


def fuzz_fits(fuzz: Fuzz, items: np.ndarray, vectors: np.ndarray, wanted: sparse.csr_matrix) -> np.ndarray:
    """(n,) how well the marked words of each item fit its label, given as a row each of (n, e) and (n, V)."""
    marked = fuzz.marked[items]
    mean = marked @ fuzz.vectors
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    found: np.ndarray = (
        np.einsum("ne,ne->n", mean, vectors) + np.asarray(marked.multiply(wanted).sum(1)).ravel()
    )
    return found


def _marks(
    mine: Contexts, words: Words, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """(window, word id) of the words marked as the latent's own, and of those marked instead."""
    inside = mine.tokens >= 0
    window = np.broadcast_to(np.arange(len(inside))[:, None], inside.shape)[inside]
    flat = words.flat(mine.document, mine.start)[:, None] + np.arange(inside.shape[1])
    flat = flat[inside]
    value = mine.activations[inside]
    cut = _STRONG * mine.activations.max(axis=1, initial=0)
    # Each word of a window once, by its strongest token.
    key = window.astype(np.int64) * len(words.vocabulary) + words.word[flat]
    unique, of = np.unique(key, return_inverse=True)
    strongest = np.zeros(len(unique), dtype=np.float32)
    np.maximum.at(strongest, of, value)
    window, word = unique // len(words.vocabulary), unique % len(words.vocabulary)
    turn = uniform_hash(seed, window, word)

    own = np.flatnonzero((strongest >= cut[window]) & (strongest > 0))
    own = own[np.lexsort((-strongest[own], window[own]))]
    own = own[rank_in_group(window[own]) < _MOST_WORDS]
    count = np.bincount(window[own], minlength=len(inside))
    other = np.flatnonzero(strongest <= 0)
    other = other[np.lexsort((turn[other], window[other]))]
    other = other[rank_in_group(window[other]) < count[window[other]]]
    return (window[own], word[own]), (window[other], word[other])


def _word_vectors(
    marked: sparse.csr_matrix, vocabulary: list[str], encoder: SentenceEncoder, progress: Progress
) -> np.ndarray:
    count = np.asarray(marked.sum(axis=0)).ravel()
    used = np.argsort(-count, kind="stable")[: min(_EMBEDDED, int((count > 0).sum()))]
    out = np.zeros((len(vocabulary), encoder.width), dtype=np.float32)
    with progress.task("embed words", total=len(used), unit="words") as task:
        for part in np.array_split(used, max(1, len(used) // 4096)):
            out[part] = encoder.embed([FORM_NAMES.get(vocabulary[w], vocabulary[w]) for w in part])
            task.advance(len(part))
    return out
