"""Documents are cut into windows without losing or repeating a token."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from mneme.corpus import Document
from mneme.corpus.windows import tokenize, windows


@given(st.lists(st.integers(1, 40), max_size=8), st.integers(2, 12), st.booleans())
def test_windows_cover_each_document_once_and_fit_the_context(
    lengths: list[int], context_length: int, has_bos: bool
) -> None:
    seen = [np.zeros(length, dtype=int) for length in lengths]
    for window in windows(lengths, context_length, has_bos):
        assert 1 <= window.length + has_bos <= context_length
        seen[window.document][window.start : window.start + window.length] += 1
    assert all((counts == 1).all() for counts in seen)


def test_tokens_are_the_tokenizers_own_without_special_ones() -> None:
    tokenizer = tiny_tokenizer()
    text = tokenize([Document("ab c"), Document("d")], tokenizer)
    assert [tokenizer.decode(ids) for ids in text.tokens] == ["ab c", "d"]
    assert text.chosen == [0, 1]


def test_a_limit_takes_topics_in_turn_and_keeps_corpus_order() -> None:
    documents = [Document(10 * letter, topic) for letter, topic in zip("abcdef", "xxxxyz", strict=True)]
    text = tokenize(documents, tiny_tokenizer(), max_tokens=35)
    assert text.chosen == [0, 1, 4, 5]  # x, y, z first, then the second x, cut to what is left
    assert [len(ids) for ids in text.tokens] == [10, 5, 10, 10]


def test_a_limit_beyond_the_corpus_takes_all_of_it() -> None:
    documents = [Document(f"text {i}") for i in range(600)]
    assert tokenize(documents, tiny_tokenizer(), max_tokens=10**6).chosen == list(range(600))
