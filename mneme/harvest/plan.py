"""What is read, in which shard, and where behaviour is measured: all decided before the first forward pass.

The plan follows from the corpus, the tokenizer and the settings alone, so that a harvest that was killed goes
on with the same plan and ends with the same files.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedTokenizerBase

from mneme._util.errors import CorpusError
from mneme.corpus import Corpus
from mneme.corpus.windows import Window, tokenize, windows
from mneme.harvest.config import HarvestConfig

_PREVIEW_CHARACTERS = 200
# What a forward pass costs beside its tokens, in tokens: Python, and reading the weights. Measured on two cores
# (SmolLM2-135M, float32): 0.11 s, where a token takes 0.8 ms.
PASS_TOKENS = 130


@dataclass(frozen=True)
class Plan:
    """Documents are numbered 0, 1, ... in corpus order, those left out not counted."""

    tokens: list[np.ndarray] = field(metadata={"doc": "of each document, (T,) int32"})
    topics: list[str | None] = field(metadata={"doc": "of each document"})
    previews: list[str] = field(metadata={"doc": "each document's first 200 characters"})
    behaviour: np.ndarray = field(
        metadata={"doc": "(n_documents,) bool: KL and NLL are measured at its start"}
    )
    shards: list[range] = field(metadata={"doc": "documents of each shard"})
    bos: int | None = field(metadata={"doc": "id of the token put before every window"})
    pad: int = field(metadata={"doc": "id that fills rows up to the longest of a batch"})

    @property
    def n_tokens(self) -> int:
        """Tokens of text, BOS not counted."""
        return sum(map(len, self.tokens))

    def n_shard_tokens(self, shard: int) -> int:
        """Tokens of one shard's documents."""
        return sum(len(self.tokens[document]) for document in self.shards[shard])


def make_plan(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, config: HarvestConfig) -> Plan:
    """Tokenise the corpus and lay it out. Raises CorpusError when it is too short."""
    tokens, chosen = tokenize(corpus.documents, tokenizer, config.max_tokens)
    documents = [corpus.documents[index] for index in chosen]
    n_tokens = sum(map(len, tokens))
    if n_tokens < config.min_tokens:
        raise CorpusError(
            f"the corpus {corpus.source} has {n_tokens} tokens, too few to learn from"
            f" (at least {config.min_tokens}): give more text"
        )
    bos = tokenizer.bos_token_id
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id, bos) if i is not None), 0)
    return Plan(
        tokens=tokens,
        topics=[document.topic for document in documents],
        previews=[document.text[:_PREVIEW_CHARACTERS] for document in documents],
        behaviour=_behaviour_sample([document.topic for document in documents], tokens, config),
        shards=_shards([len(ids) for ids in tokens], config.shard_tokens),
        bos=None if bos is None else int(bos),
        pad=int(pad),
    )


def shard_batches(plan: Plan, shard: int, config: HarvestConfig) -> list[list[Window]]:
    """The shard's windows in batches of like length."""
    documents = plan.shards[shard]
    found = windows([len(plan.tokens[d]) for d in documents], config.context_length, plan.bos is not None)
    found = [window._replace(document=window.document + documents.start) for window in found]
    return batches_of_like_length(found, config.batch_tokens, plan.bos is not None)


def batches_of_like_length(group: list[Window], size: int, has_bos: bool) -> list[list[Window]]:
    """Batches of at most `size` tokens with padding (a single longer window is a batch by itself).

    Of all ways to cut the windows, longest first, the one that costs least: a pass costs its tokens, padding included,
    and `PASS_TOKENS` more.
    """
    # Longest first: the largest allocations come first, and the row that sets the padding opens its batch.
    order = sorted(group, key=lambda w: (-w.length, w.document, w.start))
    n = len(order)
    cost = np.zeros(n + 1, dtype=np.int64)  # of all windows from the i-th on
    stop = np.zeros(n, dtype=np.int64)  # where the batch that the i-th opens ends
    for i in reversed(range(n)):
        length = order[i].length + has_bos
        rows = np.arange(1, max(1, min(n - i, size // length)) + 1)
        costs = length * rows + PASS_TOKENS + cost[i + rows]
        best = int(costs.argmin())
        cost[i], stop[i] = costs[best], i + rows[best]
    batches, at = [], 0
    while at < n:
        batches.append(order[at : stop[at]])
        at = int(stop[at])
    return batches


def _shards(lengths: Sequence[int], shard_tokens: int) -> list[range]:
    """Runs of documents of about `shard_tokens` tokens; a document is never split."""
    bounds, filled = [0], 0
    for document, length in enumerate(lengths):
        if filled and filled + length > shard_tokens:
            bounds.append(document)
            filled = 0
        filled += length
    bounds.append(len(lengths))
    return [range(a, b) for a, b in itertools.pairwise(bounds)]


def _behaviour_sample(
    topics: Sequence[str | None], tokens: Sequence[np.ndarray], config: HarvestConfig
) -> np.ndarray:
    """Every 1/share-th document of each topic, in an order drawn from the texts themselves.

    Systematic: a topic of n documents gets share * n of them to within one.
    """

    def draw(document: int) -> bytes:
        return hashlib.sha256(str(config.seed).encode() + tokens[document].tobytes()).digest()

    order = sorted(range(len(tokens)), key=lambda d: (topics[d] or "", draw(d)))
    ranks = np.arange(1, len(tokens) + 1) * config.behaviour_share
    sample = np.zeros(len(tokens), dtype=bool)
    sample[order] = np.floor(ranks + 1e-9) > np.floor(ranks - config.behaviour_share + 1e-9)
    return sample
