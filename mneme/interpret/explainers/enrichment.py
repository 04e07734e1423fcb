"""Which words a latent's training contexts have more of than the corpus.

Four counts for each latent, over its train contexts of quantile 0 and of the upper deciles: words it
fires on, those with the word before them (bigrams), words that come next after them, and words anywhere in the
window. Each count is compared with the corpus by log-odds with an informative Dirichlet prior (Monroe, Colaresi and
Quinn 2008, eqs. 16-22), whose z-score neither favours words seen once nor stop words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme.interpret.contexts import Contexts
from mneme.interpret.corpus_words import Words, words_in_windows

_PRIOR = 500.0  # pseudo-counts, over the vocabulary as the corpus has it
_STRONG = 0.4  # of the window's largest activation: the tokens a context is about
_LOWEST_DECILE = 6
_COMMON = 0.1  # words in a larger share of all windows are nobody's subject


class Enriched(NamedTuple):
    """One word of one latent."""

    word: str
    z: float
    share: float
    """Of the latent's count (firing, phrases, next) or of its contexts (window)."""


class Evidence(NamedTuple):
    """What stands out for one latent, most striking first."""

    firing: list[Enriched]
    phrases: list[Enriched]
    """The same with the word before: "united states"."""
    following: list[Enriched]
    window: list[Enriched]
    n_contexts: int


def gather_evidence(
    contexts: Contexts, words: Words, n_latents: int, *, n_words: int = 12
) -> dict[int, Evidence]:
    """The evidence of every latent that has train contexts."""
    chosen = contexts.take(
        np.flatnonzero(~contexts.test & ((contexts.quantile == 0) | (contexts.quantile >= _LOWEST_DECILE)))
    )
    V = len(words.vocabulary)
    shape = (n_latents, V)
    corpus = np.bincount(words.word, weights=_word_starts(words), minlength=V)
    flat = words.flat(chosen.document, chosen.start)[:, None] + np.arange(chosen.tokens.shape[1])
    inside = chosen.tokens >= 0
    flat = np.where(inside, flat, 0)
    peak = chosen.activations.max(axis=1, initial=0)
    strong = inside & (chosen.activations >= _STRONG * peak[:, None]) & (chosen.activations > 0)
    context, column = np.nonzero(strong)
    place = flat[context, column]
    weight = chosen.activations[context, column] / peak[context]
    firing = _once_a_word(chosen.latent[context], words.number[place], words.word[place], weight, shape)
    phrases, pairs, names = _phrases(chosen, words, context, place, weight, n_latents)
    following = _following(chosen, words, context, place, shape)
    bounds = np.r_[0, np.cumsum(chosen.length)]
    in_context = sparse.csr_matrix(
        (np.ones(int(bounds[-1]), np.float32), words.word[flat[inside]], bounds), shape=(len(flat), V)
    )
    in_context.sum_duplicates()
    in_context.data[:] = 1
    every = np.arange(len(flat))
    of_latent = sparse.csr_matrix(
        (np.ones(len(flat), np.float32), (chosen.latent, every)), (n_latents, len(flat))
    )
    seen_in = of_latent @ in_context
    windows = np.asarray(words_in_windows(words).sum(axis=0), dtype=np.float64).ravel()
    n_contexts = np.bincount(chosen.latent, minlength=n_latents)
    usable = np.array([len(w) > 2 and w.isalpha() for w in words.vocabulary], dtype=bool)
    usable &= windows <= max(_COMMON * words.n_windows, 3)
    firing_words = _strongest(firing, corpus, n_words, words.vocabulary)
    spelled = np.array(
        [all(any(map(str.isalpha, part)) for part in name.split(" ")) for name in names], dtype=bool
    )
    firing_phrases = _strongest(phrases, pairs, n_words, names, usable=spelled)
    next_words = _strongest(following, corpus, n_words, words.vocabulary)
    around = _strongest(seen_in, windows, n_words, words.vocabulary, usable=usable, total=n_contexts)
    return {
        j: Evidence(
            firing_words.get(j, []),
            firing_phrases.get(j, []),
            next_words.get(j, []),
            around.get(j, []),
            int(n_contexts[j]),
        )
        for j in np.flatnonzero(n_contexts).tolist()
    }


def log_odds(count: np.ndarray, total: np.ndarray, corpus: np.ndarray, corpus_total: float) -> np.ndarray:
    """z-scores of counts against the corpus, elementwise: Monroe et al. 2008, eqs. 16, 20 and 22.

    `count`, `corpus`: of a word, in the sample and the corpus; `total`, `corpus_total`: of all words.
    """
    prior = _PRIOR * corpus / corpus_total
    a, b = count + prior, corpus + prior
    delta = np.log(a / np.maximum(total + _PRIOR - a, 1e-9)) - np.log(
        b / np.maximum(corpus_total + _PRIOR - b, 1e-9)
    )
    return delta / np.sqrt(1 / a + 1 / b)


def _strongest(
    counts: sparse.csr_matrix,
    corpus: np.ndarray,
    n: int,
    vocabulary: list[str],
    *,
    usable: np.ndarray | None = None,
    total: np.ndarray | None = None,
) -> dict[int, list[Enriched]]:
    """Per latent, the words of largest z that stand out at all (z > 1)."""
    counts.sum_duplicates()
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    word, count = counts.indices, counts.data
    sums = np.asarray(counts.sum(axis=1)).ravel()
    z = log_odds(count, sums[row], np.maximum(corpus[word], 0.5), float(corpus.sum()))
    keep = z > 1
    if usable is not None:
        keep &= usable[word]
    row, word, count, z = row[keep], word[keep], count[keep], z[keep]
    order = np.lexsort((word, -z, row))
    row, word, count, z = row[order], word[order], count[order], z[order]
    share = count / np.maximum((sums if total is None else total)[row], 1e-12)
    bounds = np.searchsorted(row, np.arange(counts.shape[0] + 1))
    return {
        j: [Enriched(vocabulary[word[i]], float(z[i]), float(share[i])) for i in range(a, min(b, a + n))]
        for j, (a, b) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True))
        if b > a
    }


def _once_a_word(
    latent: np.ndarray, index: np.ndarray, word: np.ndarray, weight: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Weights summed over (latent, word); a word of the text counts once, with its strongest token."""
    order = np.lexsort((-weight, index, latent))
    latent, index, word, weight = (a[order] for a in (latent, index, word, weight))
    new = np.ones(len(latent), dtype=bool)
    new[1:] = (latent[1:] != latent[:-1]) | (index[1:] != index[:-1])
    return sparse.csr_matrix((weight[new].astype(np.float64), (latent[new], word[new])), shape=shape)


def _phrases(
    chosen: Contexts, words: Words, context: np.ndarray, place: np.ndarray, weight: np.ndarray, n_latents: int
) -> tuple[sparse.csr_matrix, np.ndarray, list[str]]:
    """Each strong word with the one before it in its document: (F, P) weights, (P,) counts in the corpus, P names."""
    V = len(words.vocabulary)
    starts = _word_starts(words) > 0
    spoken = words.word[starts].astype(np.int64)
    opens = np.zeros(len(spoken), dtype=bool)  # the first word of a document has none before it
    opens[words.number[words.first[:-1][np.diff(words.first) > 0]]] = True
    pair = np.r_[-1, spoken[:-1]] * V + spoken
    known, count = np.unique(pair[~opens], return_counts=True)
    number = words.number[place]
    ok = ~opens[number]
    of_pair = np.searchsorted(known, pair[number[ok]])
    shape = (n_latents, len(known))
    found = _once_a_word(chosen.latent[context[ok]], number[ok], of_pair, weight[ok], shape)
    names = [
        f"{words.vocabulary[a]} {words.vocabulary[b]}" for a, b in zip(known // V, known % V, strict=True)
    ]
    return found, count.astype(np.float64), names


def _following(
    chosen: Contexts, words: Words, context: np.ndarray, place: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_matrix:
    """The word after each strong token, if the document goes on."""
    after = place + 1
    last = words.first[np.searchsorted(words.document, chosen.document[context]) + 1]
    ok = after < last
    latent, after = chosen.latent[context[ok]], after[ok]
    return _once_a_word(latent, words.number[after], words.word[after], np.ones(len(after)), shape)


def _word_starts(words: Words) -> np.ndarray:
    starts = np.ones(len(words.number))
    starts[1:] = words.number[1:] != words.number[:-1]
    return starts
