"""Does a label tell where its latent fires? Detection on documents the label was not made from.

A reader without a language model judges how well a window of text fits a label:

    fit = cos(label, window) + share of the label's words that stand in the window

The label is read without the words that say how it is meant ("often on:"). The cosine is of sentence embeddings;
words weigh by how rare they are (idf over windows), and those that the corpus doesn't have count for nothing. On
training documents a threshold is chosen that best parts windows where the latent fires from a common pool where
it doesn't; on held-out documents that threshold is judged:

    balanced accuracy = (true positive rate + true negative rate) / 2        0.5 is chance

The same is done with other latents' labels, `score_shuffled` is their mean: what any text would get. A label that does
no better is unreliable. (Detection scoring:
Paulo et al., arXiv 2410.13928; why balanced: arXiv 2506.05774.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts, is_test
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.selection import Codes, plain_shards, uniform_hash
from mneme.interpret.words import Words, words_in_windows
from mneme.progress import NULL_PROGRESS, Progress

_GUESSES = 4  # other latents' labels that each latent is judged with
_POOL = 300  # windows a side where latents are expected not to fire
_MIN_POSITIVES = 2  # windows a side, for a score to mean anything
_MAX_POSITIVES = 12
_LOWEST_DECILE = 6
_CHUNK = 2**22  # fits held at once, for each judged label: 16 MB
_MEANT = re.compile(r"\b(often on|(in )?text on|says|before|promotes|first tokens of a text)\b:?")
_WORD = re.compile(r"[^\W_]+|[^\w\s]")


class Exam(NamedTuple):
    """The windows that labels are judged on."""

    windows: np.ndarray
    """(W,) the grid's windows that are used."""
    vectors: np.ndarray
    """(W, width) their embeddings."""
    holds: sparse.csr_matrix
    """(W, V) 0/1: which words stand in each window."""
    rarity: np.ndarray
    """(V,) idf of each word: ln(windows / windows that hold it)."""
    word_id: dict[str, int]
    positives: pd.DataFrame
    """latent, slot (index into windows), test (bool): windows where a latent fires."""
    pools: dict[bool, np.ndarray]
    """Slots of the common pools: train (False) and test (True)."""
    silent: dict[bool, np.ndarray]
    """(F, pool) bool: the latent doesn't fire anywhere in the window."""


def set_exam(
    contexts: Contexts,
    codes: Codes,
    rows: tuple[np.ndarray, np.ndarray],
    words: Words,
    encoder: SentenceEncoder,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
    *,
    most: int = 6000,
) -> Exam:
    """Choose and embed the windows, `most` at most. `rows`: document and position of each of the N tokens."""
    document = words.window_document()
    held_out = is_test(document, config)
    # A tiny piece at a document's end is no context.
    rng = np.random.default_rng(config.seed)
    pools = {
        side: np.sort(rng.choice(own, min(_POOL, len(own)), replace=False))
        for side in (False, True)
        for own in [np.flatnonzero(held_out == side)]
    }
    chosen = _positives(contexts, words, config, budget=most - sum(map(len, pools.values())))
    assert not set(document[held_out]) & set(document[~held_out]), "a document is on both sides"
    assert (held_out[chosen.window] == chosen.test).all(), "a context's split is not its document's"
    windows = np.unique(np.concatenate([chosen.window, pools[False], pools[True]]))
    vectors = []
    with progress.task("embed text", total=len(windows), unit="windows") as task:
        for part in np.array_split(windows, max(1, len(windows) // 512)):
            vectors.append(encoder.embed([words.window_text(int(w)) for w in part]))
            task.advance(len(part))
    silent = _silent(codes, rows, words, pools, len(contexts.n_active))
    chosen["slot"] = np.searchsorted(windows, chosen.window)
    slots = {side: np.searchsorted(windows, pool) for side, pool in pools.items()}
    holds = words_in_windows(words)
    rarity = np.log(words.n_windows / np.maximum(np.asarray(holds.sum(axis=0)).ravel(), 1))
    return Exam(
        windows,
        np.concatenate(vectors),
        holds[windows],
        rarity,
        {word: i for i, word in enumerate(words.vocabulary)},
        chosen,
        slots,
        silent,
    )


def score_labels(
    exam: Exam, latents: np.ndarray, labels: Sequence[str], vectors: np.ndarray, *, seed: int = 0
) -> pd.DataFrame:
    """latent, score, score_shuffled of labels, given by their `content` and its embedding (L, width).

    NaN: too few contexts.
    """
    n = len(latents)
    # Which label is judged on which latent: its own, then some others'.
    judged = np.stack([np.arange(n), *(shuffled(n, seed + turn) for turn in range(min(_GUESSES, n - 1)))])
    order = exam.positives.sort_values("latent", kind="stable")
    bounds = np.searchsorted(order.latent, np.stack([latents, latents + 1]))
    slot, test = order.slot.to_numpy(), order.test.to_numpy()
    out = np.full((n, len(judged)), np.nan)
    wanted = word_weights(exam, labels)
    size = max(1, _CHUNK // max(len(exam.windows), 1))
    for begin in range(0, n, size):
        here = np.arange(begin, min(begin + size, n))
        fits = [fit(exam, vectors[which], wanted[which]) for which in judged[:, here]]
        for i, row in zip(here.tolist(), range(len(here)), strict=True):
            mine = slice(bounds[0, i], bounds[1, i])
            yes = {side: slot[mine][test[mine] == side] for side in (False, True)}
            no = {side: exam.pools[side][exam.silent[side][latents[i]]] for side in (False, True)}
            if min(map(len, yes.values())) < _MIN_POSITIVES or min(map(len, no.values())) < _MIN_POSITIVES:
                continue
            for column, judge in enumerate(fits):
                near = judge[row]
                threshold = best_threshold(near[yes[False]], near[no[False]])
                out[i, column] = balanced_accuracy(near[yes[True]], near[no[True]], threshold)
    guess = out[:, 1:].mean(axis=1) if len(judged) > 1 else np.full(n, np.nan)
    return pd.DataFrame({"latent": latents, "score": out[:, 0], "score_shuffled": guess})


def content(label: str) -> str:
    """The label without "often on:", "text on" and their like, which are in many labels and tell of none."""
    return " ".join(_MEANT.sub(" ", label).split()) or label


def fit(exam: Exam, vectors: np.ndarray, wanted: sparse.csr_matrix) -> np.ndarray:
    """(L, W): how well each window fits each label."""
    return vectors @ exam.vectors.T + np.asarray((wanted @ exam.holds.T).todense(), dtype=np.float32)


def word_weights(exam: Exam, labels: Sequence[str]) -> sparse.csr_matrix:
    """(L, V): each label's words that the corpus has, by rarity, summing to 1."""
    rows, columns, weights = [], [], []
    for row, label in enumerate(labels):
        found = [exam.word_id[w] for w in dict.fromkeys(_WORD.findall(label.lower())) if w in exam.word_id]
        total = float(exam.rarity[found].sum())
        for word in found if total > 0 else ():
            rows.append(row)
            columns.append(word)
            weights.append(exam.rarity[word] / total)
    return sparse.csr_matrix(
        (weights, (rows, columns)), shape=(len(labels), len(exam.rarity)), dtype=np.float32
    )


def best_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    """The threshold of largest balanced accuracy; half-way between the values it parts."""
    values = np.unique(np.concatenate([positive, negative]))
    cuts = np.r_[values[0] - 1, (values[1:] + values[:-1]) / 2]
    hit = 1 - np.searchsorted(np.sort(positive), cuts, side="right") / len(positive)
    rejected = np.searchsorted(np.sort(negative), cuts, side="right") / len(negative)
    return float(cuts[np.argmax(hit + rejected)])


def balanced_accuracy(positive: np.ndarray, negative: np.ndarray, threshold: float) -> float:
    """Mean of the shares of positives above and negatives not above the threshold."""
    return float(((positive > threshold).mean() + (negative <= threshold).mean()) / 2)


def shuffled(n: int, seed: int) -> np.ndarray:
    """A permutation that leaves nothing in its place (for n > 1): a random cycle."""
    order = np.random.default_rng(seed).permutation(n)
    out = np.empty(n, dtype=np.int64)
    out[order] = np.roll(order, 1)
    return out


def _positives(contexts: Contexts, words: Words, config: InterpretConfig, budget: int) -> pd.DataFrame:
    """latent, window, test: a few windows a side of each latent, within a budget of distinct windows."""
    keep = (contexts.quantile == 0) | (contexts.quantile >= _LOWEST_DECILE)
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
    return frame[frame.groupby(["latent", "test"]).cumcount() < _MAX_POSITIVES].reset_index(drop=True)


def _silent(
    codes: Codes,
    rows: tuple[np.ndarray, np.ndarray],
    words: Words,
    pools: dict[bool, np.ndarray],
    n_latents: int,
) -> dict[bool, np.ndarray]:
    """Per side, (F, pool): where each latent does not fire at all."""
    slot = np.full(words.n_windows, -1, dtype=np.int32)
    both = np.concatenate([pools[False], pools[True]])
    slot[both] = np.arange(len(both))
    known = np.isin(rows[0], words.document)
    of_row = np.full(len(rows[0]), -1, dtype=np.int32)
    of_row[known] = slot[words.window_of(rows[0][known], rows[1][known])]
    fires = np.zeros((n_latents, len(both)), dtype=bool)
    for first, row, latent, _, _ in plain_shards(codes):
        where = of_row[row + first]
        hit = where >= 0
        fires[latent[hit], where[hit]] = True
    cut = len(pools[False])
    return {False: ~fires[:, :cut], True: ~fires[:, cut:]}
