"""The random-latent baseline: what does a label of nothing score?

Made-up latents fire on tokens drawn at random, as often as real ones do and as strongly. They are put through the same
contexts, the same offline explainer and the same scoring set. Whatever they score above 0.5 is what the
metric gives to meaningless labels. (Why such a baseline is needed: auto-interpretation scores random networks nearly as
well, arXiv 2501.17727.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts
from mneme.interpret.corpus_words import Words
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.explainers.enrichment import gather_evidence
from mneme.interpret.explainers.offline import offline_labels
from mneme.interpret.neighbours import nearest_by_firing
from mneme.interpret.scorers.detection import score_method
from mneme.interpret.scorers.fuzz import set_fuzz
from mneme.interpret.scorers.scoring_set import ScoringSet, fill_scoring_set, positive_windows

LATENTS = 200
_MOST_FIRINGS = 20_000  # of one made-up latent


class RandomCodes:
    """Codes of latents that fire on random tokens: served as one shard."""

    def __init__(self, tokens: np.ndarray, n_active: np.ndarray, n_tokens: int, seed: int = 0) -> None:
        """`tokens`: rows to draw from; `n_active` (L,): firings of each latent."""
        rng = np.random.default_rng(seed)
        counts = np.minimum(n_active, min(len(tokens), _MOST_FIRINGS))
        row = [np.sort(rng.choice(tokens, int(n), replace=False)) for n in counts]
        latent = np.repeat(np.arange(len(counts)), counts)
        rows = np.concatenate([*row, np.zeros(0, dtype=np.int64)])
        order = np.lexsort((latent, rows))
        value = rng.standard_exponential(len(rows)).astype(np.float32)
        self.codes = rows[order], latent[order], value
        self.n_tokens = n_tokens

    def shards(self) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray], int]]:
        yield 0, self.codes, self.n_tokens


def random_latent_scores(
    scoring_set: ScoringSet,
    n_active: np.ndarray,
    cache: Texts,
    words: Words,
    encoder: SentenceEncoder,
    config: InterpretConfig,
) -> pd.DataFrame:
    """The rows of `label_summary` for made-up latents. `n_active` (F,): firings of the real ones."""
    live = np.sort(n_active[n_active > 0])
    if not len(live):
        return pd.DataFrame()
    like = live[np.linspace(0, len(live) - 1, min(LATENTS, len(live))).astype(int)]
    tokens = np.flatnonzero(np.isin(cache.document, words.document))
    codes = RandomCodes(tokens, like, len(cache.document), config.seed)
    contexts = find_contexts(codes, cache, len(like), config)
    labels = offline_labels(gather_evidence(contexts, words, len(like)), {})
    chosen = positive_windows(contexts, words, config, budget=words.n_windows)
    near = nearest_by_firing(codes, contexts.n_active, n=config.neighbours)
    rows = cache.document, cache.position
    own = fill_scoring_set(scoring_set, contexts, chosen, near, codes, rows, words)
    fuzz = set_fuzz(contexts, words, encoder, config.seed)
    found = score_method(own, fuzz, labels, encoder, seed=config.seed).summary
    return found[found.labels == "own"].assign(labels="random latent")
