"""Small fakes of what the rooms before hand over."""

from __future__ import annotations

import numpy as np
import pytest

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts
from mneme.interpret.corpus_words import read_words

from .fakes import FakeCache, FakeCodes

SUBJECTS = [
    "the virus infects human cells and the immune system fights infection with antibodies",
    "the court heard the lawyer before a judge gave the verdict on the contract",
    "the planet orbits a bright star while telescopes watch the distant galaxy",
]


class WordTexts:
    """A vocabulary of whole words with a leading space."""

    def __init__(self) -> None:
        self.words = sorted({w for s in SUBJECTS for w in s.split()} | {",", "."})
        self.id = {w: i for i, w in enumerate(self.words)}

    def texts(self, ids) -> list[str]:
        return [w if len(w) == 1 and not w.isalpha() else f" {w}" for w in (self.words[int(i)] for i in ids)]


@pytest.fixture(scope="session")
def world():
    """90 documents on three subjects; latents: a word, a subject's every word, commas, everywhere."""
    rng = np.random.default_rng(0)
    texts = WordTexts()
    documents = []
    for d in range(90):
        words = SUBJECTS[d % 3].split()
        picked = [str(w) for w in rng.choice(words, 40)]
        picked[10] = picked[30] = ","
        documents.append([texts.id[w] for w in picked])
    cache = FakeCache(documents)
    dense = np.zeros((cache.n, 5), dtype=np.float32)
    subject = cache.document % 3
    dense[cache.token == texts.id["virus"], 0] = 2.0
    dense[(subject == 1) & (rng.random(cache.n) < 0.3), 1] = 1.0
    dense[cache.token == texts.id[","], 2] = 1.5
    dense[rng.random(cache.n) < 0.3, 3] = 1.0
    dense *= 1 + 0.1 * rng.random(dense.shape).astype(np.float32)
    config = InterpretConfig(window=20, top_contexts=12, decile_contexts=3, test_share=0.5)
    codes = FakeCodes(dense, shard=400)
    contexts = find_contexts(codes, cache, 5, config)
    return cache, codes, config, contexts, read_words(cache, contexts.document, texts, config.window), texts
