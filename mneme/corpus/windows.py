"""Documents -> token windows that a model reads in one go.

A document's tokens are cut into windows of at most `context_length` tokens. Where the tokenizer has a
beginning-of-sequence token, every window starts with it: it is what the model was trained to see first, and
it takes the attention-sink role that would otherwise fall on a token of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from mneme.corpus.corpus import Document
from mneme.models.quiet import quiet_transformers


class Window(NamedTuple):
    """Tokens start .. start + length of a document, without the BOS put before them."""

    document: int
    start: int
    length: int


class TokenizedText(NamedTuple):
    """Documents as token ids."""

    tokens: list[np.ndarray]
    """Of each document, (T,) int32, no special tokens added."""
    chosen: list[int]
    """Index of each document in the corpus; a document without tokens, or beyond the limit, is left out."""


def tokenize(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None = None
) -> TokenizedText:
    """Token ids of the documents, in order, up to about `max_tokens` in all.

    A cut takes the documents topic by topic in turn (so that each topic keeps its share), the last one is
    shortened to the limit.
    """
    chosen: list[int] = []
    tokens: dict[int, np.ndarray] = {}
    left = max_tokens
    order = list(range(len(documents))) if max_tokens is None else _topics_in_turn(documents)
    for batch in np.array_split(np.array(order, dtype=np.int64), max(1, len(order) // 256)):
        with quiet_transformers():  # it warns of texts longer than the model's context: they are cut below
            encoded = tokenizer([documents[i].text for i in batch], add_special_tokens=False)["input_ids"]
        for index, ids in zip(batch.tolist(), encoded, strict=True):
            kept = np.asarray(ids if left is None else ids[:left], dtype=np.int32)
            if not len(kept):
                continue
            tokens[index] = kept
            if left is not None:
                left -= len(kept)
        if left is not None and left <= 0:
            break
    chosen = sorted(tokens)
    return TokenizedText([tokens[index] for index in chosen], chosen)


def windows(lengths: Sequence[int], context_length: int, has_bos: bool) -> list[Window]:
    """The windows of documents with these numbers of tokens, in order."""
    stride = context_length - has_bos
    return [
        Window(document, start, min(stride, length - start))
        for document, length in enumerate(lengths)
        for start in range(0, length, stride)
    ]


def _topics_in_turn(documents: Sequence[Document]) -> list[int]:
    """The first document of each topic, then the second of each, ...; with one topic, the order it has."""
    seen: dict[str | None, int] = {}
    turns = []
    for index, document in enumerate(documents):
        turn = seen.get(document.topic, 0)
        seen[document.topic] = turn + 1
        turns.append((turn, index))
    return [index for _, index in sorted(turns)]
