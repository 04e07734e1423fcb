"""Fakes of the caches, and of a tokenizer-free corpus, for the tests of this room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from mneme.interpret.clients.base import Reply


@dataclass
class FakeCodes:
    """A dense (N, F) matrix served as CodeCache serves codes."""

    dense: np.ndarray
    shard: int = 50

    def shards(self) -> Iterator[tuple[int, tuple, int]]:
        for first in range(0, len(self.dense), self.shard):
            part = self.dense[first : first + self.shard]
            row, latent = np.nonzero(part)
            yield first, (row, latent, part[row, latent]), len(part)


@dataclass
class FakeCache:
    """Documents of tokens; the first token of each (and any position in `left_out`) has no row."""

    texts: list[list[int]]
    left_out: set[tuple[int, int]] = field(default_factory=set)
    width: int = 8

    def __post_init__(self) -> None:
        kept = [
            (d, p, token)
            for d, text in enumerate(self.texts)
            for p, token in enumerate(text)
            if p and (d, p) not in self.left_out
        ]
        self.document, self.position, self.token = (
            np.array(c, dtype=np.int32) for c in zip(*kept, strict=True)
        )
        self.n, self.n_documents = len(kept), len(self.texts)
        rng = np.random.default_rng(0)
        self.kl, self.nll_base, self.nll_tuned = rng.random((3, self.n)).astype(np.float32)
        self.kl[::3] = np.nan
        self.topics = [None] * len(self.texts)

    def document_tokens(self, document: int) -> np.ndarray:
        return np.array(self.texts[document], dtype=np.int32)


def random_cache(n_documents: int = 60, longest: int = 60, vocabulary: int = 40, seed: int = 0) -> FakeCache:
    rng = np.random.default_rng(seed)
    texts = [rng.integers(0, vocabulary, rng.integers(3, longest)).tolist() for _ in range(n_documents)]
    left_out = {(d, int(rng.integers(1, 5))) for d in range(0, n_documents, 3)}
    return FakeCache(texts, left_out)


def random_codes(n: int, n_latents: int, density: float = 0.1, shard: int = 50, seed: int = 1) -> FakeCodes:
    rng = np.random.default_rng(seed)
    dense = rng.random((n, n_latents)).astype(np.float32) * (rng.random((n, n_latents)) < density)
    dense[:, -1] = 0  # a dead latent
    return FakeCodes(dense, shard)


class Reader:
    """Says 1 where the label's word stands in the text (fuzzing: between marks); counts what it is asked."""

    method, identity, most_at_once, reply_tokens = "llm:reader", "reader", None, 300

    def __init__(self, broken: str = "") -> None:
        self.asked: list[str] = []
        self.broken = broken

    def reply(self, system: str, user: str) -> Reply:
        self.asked.append(user)
        data = json.loads(user)
        if self.broken and data["label"] == self.broken:
            return Reply("I can't say", 10, 3)
        marked = "marked" in system
        said = [int((f"⟦ {data['label']}⟧" if marked else data["label"]) in text) for text in data["texts"]]
        return Reply(f"Here you are: {said}", 10, 3)
