"""The windows that labels are judged on.

Positives: windows where the latent fires (top contexts and upper five deciles). Negatives, windows in which it is
silent throughout: *random*, from a pool that all latents share; *hard*, windows where one of its nearest latents
(by decoder or by firing) is at its strongest. Training documents choose a threshold, held-out documents judge:
no document is on both sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts, is_test
from mneme.interpret.corpus_words import Words, words_in_windows
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.selection import Codes, plain_shards, rank_in_group, uniform_hash

POOL = 300  # windows a side where latents are expected not to fire
MIN_WINDOWS = 2  # of each kind, for a score to mean anything
POSITIVES = 16
HARD = 16
_PER_NEIGHBOUR = 3
LOWEST_DECILE = 6
_BLOCK = 4096  # latents whose hard negatives are chosen at a time


class ScoringSet(NamedTuple):
    """W windows and who fires in them. Slots are indices into `windows`, -1 is none."""

    windows: np.ndarray
    """(W,) the grid's windows that are used."""
    document: np.ndarray
    """(W,) index of each window's document, 0 .. n_documents - 1."""
    vectors: np.ndarray
    """(W, e) their embeddings."""
    holds: sparse.csr_matrix
    """(W, V) 0/1: which words stand in each window."""
    rarity: np.ndarray
    """(V,) idf of each word: ln(windows / windows that hold it)."""
    word_id: dict[str, int]
    positives: dict[bool, np.ndarray]
    """Train (False) and test (True): (F, P) slots where each latent fires."""
    pools: dict[bool, np.ndarray]
    """Slots of the common pools."""
    silent: dict[bool, np.ndarray]
    """(F, pool) bool: the latent doesn't fire anywhere in the window."""
    hard: np.ndarray
    """(F, H) slots of test windows where a near latent fires and this one doesn't."""

    @property
    def n_documents(self) -> int:
        return int(self.document.max(initial=-1)) + 1


def make_scoring_set(
    contexts: Contexts,
    neighbours: pd.DataFrame,
    codes: Codes,
    rows: tuple[np.ndarray, np.ndarray],
    words: Words,
    encoder: SentenceEncoder,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
    *,
    most: int = 6000,
) -> ScoringSet:
    """Choose and embed the windows, `most` at most.

    `rows`: document and position of each of the N tokens. `neighbours`: columns latent, kind, rank, neighbour.
    """
    document = words.window_document()
    held_out = is_test(document, config)
    # A tiny piece at a document's end is no context.
    rng = np.random.default_rng(config.seed)
    pools = {
        side: np.sort(rng.choice(own, min(POOL, len(own)), replace=False))
        for side in (False, True)
        for own in [np.flatnonzero(held_out == side)]
    }
    chosen = positive_windows(contexts, words, config, budget=most - sum(map(len, pools.values())))
    assert not set(document[held_out]) & set(document[~held_out]), "a document is on both sides"
    assert (held_out[chosen.window] == chosen.test).all(), "a context's split is not its document's"
    windows = np.unique(np.concatenate([chosen.window, pools[False], pools[True]]))
    vectors = []
    with progress.task("embed text", total=len(windows), unit="windows") as task:
        for part in np.array_split(windows, max(1, len(windows) // 512)):
            vectors.append(encoder.embed([words.window_text(int(w)) for w in part]))
            task.advance(len(part))
    holds = words_in_windows(words)
    rarity = np.log(words.n_windows / np.maximum(np.asarray(holds.sum(axis=0)).ravel(), 1))
    empty = ScoringSet(
        windows,
        np.unique(document[windows], return_inverse=True)[1],
        np.concatenate(vectors),
        holds[windows],
        rarity,
        {word: i for i, word in enumerate(words.vocabulary)},
        {},
        {side: np.searchsorted(windows, pool) for side, pool in pools.items()},
        {},
        np.zeros((0, HARD), np.int32),
    )
    return fill_scoring_set(empty, contexts, chosen, neighbours, codes, rows, words)


def fill_scoring_set(
    scoring_set: ScoringSet,
    contexts: Contexts,
    chosen: pd.DataFrame,
    neighbours: pd.DataFrame,
    codes: Codes,
    rows: tuple[np.ndarray, np.ndarray],
    words: Words,
) -> ScoringSet:
    """The scoring set's windows for the latents of these contexts and codes. `chosen`: latent, window, test."""
    n_latents = len(contexts.n_active)
    chosen = chosen[np.isin(chosen.window, scoring_set.windows)]
    chosen = chosen[chosen.groupby(["latent", "test"]).cumcount() < POSITIVES]
    slot = np.searchsorted(scoring_set.windows, chosen.window)
    positives = {
        side: padded(chosen.latent.to_numpy()[mine], slot[mine], n_latents, POSITIVES)
        for side in (False, True)
        for mine in [chosen.test.to_numpy() == side]
    }
    fired = firing_keys(codes, rows, words, scoring_set.windows, n_latents)
    silent = {}
    for side, pool in scoring_set.pools.items():
        place = np.full(len(scoring_set.windows), -1, dtype=np.int32)
        place[pool] = np.arange(len(pool))
        latent, at = fired // len(scoring_set.windows), place[fired % len(scoring_set.windows)]
        silent[side] = np.ones((n_latents, len(pool)), dtype=bool)
        silent[side][latent[at >= 0], at[at >= 0]] = False
    hard = hard_negatives(positives[True], neighbours, fired, len(scoring_set.windows), n_latents)
    return scoring_set._replace(positives=positives, silent=silent, hard=hard)


def positive_windows(contexts: Contexts, words: Words, config: InterpretConfig, budget: int) -> pd.DataFrame:
    """latent, window, test: a few windows a side of each latent, within a budget of distinct windows."""
    keep = (contexts.quantile == 0) | (contexts.quantile >= LOWEST_DECILE)
    frame = pd.DataFrame(
        {
            "latent": contexts.latent,
            "window": words.window_of(contexts.document, contexts.position),
            "test": contexts.test,
        }
    )[keep].drop_duplicates()
    # A window is in or out for all latents: within the budget, by its hash.
    unique = frame.window.unique()
    if len(unique) > budget:
        rank = uniform_hash(config.seed, unique.astype(np.int64)).argsort()
        frame = frame[frame.window.isin(unique[rank[: max(budget, 0)]])]
    found: pd.DataFrame = frame[frame.groupby(["latent", "test"]).cumcount() < POSITIVES].reset_index(
        drop=True
    )
    return found


def padded(latent: np.ndarray, value: np.ndarray, n_latents: int, width: int) -> np.ndarray:
    """(n_latents, width) int32: each latent's values in order, then -1; `latent` is sorted."""
    out = np.full((n_latents, width), -1, dtype=np.int32)
    rank = rank_in_group(latent)
    keep = rank < width
    out[latent[keep], rank[keep]] = value[keep]
    return out


def firing_keys(
    codes: Codes, rows: tuple[np.ndarray, np.ndarray], words: Words, windows: np.ndarray, n_latents: int
) -> np.ndarray:
    """latent * W + slot of every latent and window it fires in, ascending."""
    slot = np.full(words.n_windows, -1, dtype=np.int64)
    slot[windows] = np.arange(len(windows))
    known = np.isin(rows[0], words.document)
    of_row = np.full(len(rows[0]), -1, dtype=np.int64)
    of_row[known] = slot[words.window_of(rows[0][known], rows[1][known])]
    fires = sparse.csr_array((n_latents, len(windows)), dtype=np.int32)
    for first, row, latent, _, _ in plain_shards(codes):
        where = of_row[row + first]
        hit = where >= 0
        once = np.ones(int(hit.sum()), np.int32)
        fires = fires + sparse.csr_array((once, (latent[hit], where[hit])), shape=fires.shape)
    fires.sort_indices()
    of_latent, where = fires.nonzero()
    return of_latent.astype(np.int64) * len(windows) + where


def hard_negatives(
    positives: np.ndarray, neighbours: pd.DataFrame, fired: np.ndarray, n_windows: int, n_latents: int
) -> np.ndarray:
    """(F, H) slots: the first windows of the nearest latents, nearest first, in which the latent is silent.

    `positives` (F, P): where each latent fires; `fired`: keys of `firing_keys`.
    """
    out = np.full((n_latents, HARD), -1, dtype=np.int32)
    near = neighbours.sort_values(["latent", "rank", "kind"], kind="stable")
    near_latent, near_to = near.latent.to_numpy(np.int64), near.neighbour.to_numpy(np.int64)
    for begin in range(0, n_latents, _BLOCK):
        mine = slice(*np.searchsorted(near_latent, [begin, begin + _BLOCK]))
        slot = positives[near_to[mine], :_PER_NEIGHBOUR].ravel().astype(np.int64)
        latent = np.repeat(near_latent[mine], _PER_NEIGHBOUR)
        latent, slot = latent[slot >= 0], slot[slot >= 0]
        key = latent * n_windows + slot
        at = np.searchsorted(fired, key)
        quiet = fired[np.minimum(at, len(fired) - 1)] != key if len(fired) else np.ones(len(key), bool)
        first = np.zeros(len(key), dtype=bool)
        first[np.unique(key, return_index=True)[1]] = True
        keep = quiet & first
        out[begin : begin + _BLOCK] = padded(
            latent[keep] - begin, slot[keep], min(_BLOCK, n_latents - begin), HARD
        )
    return out
