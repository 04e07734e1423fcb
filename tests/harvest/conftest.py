"""A tiny pair, and text for it."""

from __future__ import annotations

import pytest
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme.corpus import Corpus, Document
from mneme.models import ModelPair, pair_models


@pytest.fixture(scope="session")
def pair() -> ModelPair:
    """Four layers, the third of which differs."""
    return pair_models(tiny_llama(), changed_in_layer(tiny_llama(), 2), tiny_tokenizer())


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """Thirty documents of 5 to 92 bytes on three topics."""
    words = "the cat sat on a mat and the dog ran off with it over hills far away from all of us".split()  # noqa: SIM905
    texts = [f"{i}: " + " ".join(words[(i * 7) % 11 :][: 1 + (5 * i) % 19]) for i in range(30)]
    return Corpus.of((Document(text, "abc"[i % 3]) for i, text in enumerate(texts)), "thirty texts")
