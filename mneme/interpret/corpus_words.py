"""The corpus as words: token pieces joined, lower-cased, numbered; and cut into a fixed grid of windows.

What is enriched in a latent's contexts is counted over these words (explainers/offline.py), and labels are scored
on the grid's windows (scorers/): a window is embedded once, however many latents fire in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from mneme.harvest.protocols import Texts
from mneme.interpret.tokens import TokenTexts

_MAX_TOKENS = 4_000_000  # of text beyond the contexts' own documents: enough for any word's frequency


class Words(NamedTuple):
    """T tokens of the documents that are used, end to end."""

    document: np.ndarray
    """(documents,) ids, ascending."""
    first: np.ndarray
    """(documents + 1,) index in the flat text of each document's first token; the last is T."""
    word: np.ndarray
    """(T,) int32: id of the word each token belongs to."""
    number: np.ndarray
    """(T,) int64: running number of that word in the text."""
    vocabulary: list[str]
    """Words by id, lower case, stripped."""
    piece: np.ndarray
    """(T,) int32: id of the token's text in `pieces`."""
    pieces: list[str]
    window: int
    """Tokens in a window of the grid."""
    window_first: np.ndarray
    """(documents + 1,) number of each document's first window; the last is their count."""

    @property
    def n_windows(self) -> int:
        return int(self.window_first[-1])

    def flat(self, document: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Index in the flat text of tokens given by document id and position."""
        found: np.ndarray = self.first[np.searchsorted(self.document, document)] + position
        return found

    def window_of(self, document: np.ndarray, position: np.ndarray) -> np.ndarray:
        """The grid's window that holds each token."""
        found: np.ndarray = (
            self.window_first[np.searchsorted(self.document, document)] + position // self.window
        )
        return found

    def window_document(self) -> np.ndarray:
        """(windows,) the document id of each window."""
        return np.repeat(self.document, np.diff(self.window_first))

    def window_text(self, window: int) -> str:
        """What a window says."""
        which = int(np.searchsorted(self.window_first, window, side="right")) - 1
        start = int(self.first[which]) + (window - int(self.window_first[which])) * self.window
        stop = min(start + self.window, int(self.first[which + 1]))
        return "".join(self.pieces[p] for p in self.piece[start:stop])


def read_words(cache: Texts, documents: np.ndarray, texts: TokenTexts, window: int) -> Words:
    """The words of the given documents, and of further ones up to 4 M tokens."""
    chosen = set(np.unique(documents).tolist())
    sizes = {d: len(cache.document_tokens(d)) for d in chosen}
    total = sum(sizes.values())
    for document in np.random.default_rng(0).permutation(cache.n_documents).tolist():
        if total >= _MAX_TOKENS:
            break
        if document not in chosen:
            chosen.add(document)
            total += len(cache.document_tokens(document))
    used = np.array(sorted(chosen), dtype=np.int64)
    parts = [np.asarray(cache.document_tokens(int(d)), dtype=np.int64) for d in used]
    length = np.array([len(part) for part in parts], dtype=np.int64)
    tokens = np.concatenate([*parts, np.zeros(0, dtype=np.int64)])
    first = np.r_[0, np.cumsum(length)]
    ids, piece = np.unique(tokens, return_inverse=True)
    pieces = texts.texts(ids)
    starts = _word_starts(piece, pieces, first)
    index = np.cumsum(starts) - 1
    begin = np.flatnonzero(starts)
    end = np.r_[begin[1:], len(tokens)]
    known: dict[str, int] = {}
    of_word = np.empty(len(begin), dtype=np.int32)
    single = np.array([known.setdefault(p.strip().lower(), len(known)) for p in pieces], dtype=np.int32)
    for number, (a, b) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        if b - a == 1:
            of_word[number] = single[piece[a]]
        else:
            text = "".join(pieces[p] for p in piece[a:b]).strip().lower()
            of_word[number] = known.setdefault(text, len(known))
    return Words(
        document=used,
        first=first,
        word=of_word[index] if len(index) else of_word,
        number=index,
        vocabulary=list(known),
        piece=piece.astype(np.int32),
        pieces=pieces,
        window=window,
        window_first=np.r_[0, np.cumsum(-(-length // window))],
    )


def words_in_windows(words: Words) -> sparse.csr_matrix:
    """(windows, vocabulary) 0/1: which words stand in each window of the grid."""
    index = np.arange(len(words.word))
    document = np.searchsorted(words.first, index, side="right") - 1
    window = words.window_first[document] + (index - words.first[document]) // words.window
    shape = (words.n_windows, len(words.vocabulary))
    counts = sparse.csr_matrix((np.ones(len(index), np.float32), (window, words.word)), shape=shape)
    counts.sum_duplicates()
    counts.data[:] = 1
    return counts


def _word_starts(piece: np.ndarray, pieces: list[str], first: np.ndarray) -> np.ndarray:
    """(T,) bool: a token that begins a word. Letters that follow letters without a space go on."""
    opens_with_letter = np.array([p[:1].isalpha() for p in pieces], dtype=bool)
    closes_with_letter = np.array([p[-1:].isalpha() for p in pieces], dtype=bool)
    starts = np.ones(len(piece), dtype=bool)
    starts[1:] = ~(opens_with_letter[piece[1:]] & closes_with_letter[piece[:-1]])
    starts[first[:-1][np.diff(first) > 0]] = True
    return starts
