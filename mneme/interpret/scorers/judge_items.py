"""The scoring set as texts to read, a few windows of each kind per label: for scorers that are asked, not computed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme.interpret.corpus_words import Words
from mneme.interpret.scorers import measures
from mneme.interpret.scorers.detection import TESTS
from mneme.interpret.scorers.fuzz import Fuzz
from mneme.interpret.scorers.measures import Side
from mneme.interpret.scorers.scoring_set import MIN_WINDOWS, ScoringSet
from mneme.interpret.selection import uniform_hash
from mneme.stats.bootstrap import exponential_weights, percentile_interval

PER_KIND = 6
_OPEN, _CLOSE = "⟦", "⟧"


class Item(NamedTuple):
    """One window to judge."""

    test: str
    negatives: str
    """random | hard; positives are random's."""
    held_out: bool
    positive: bool
    at: int
    """Its slot in the scoring set, or its item in the fuzzing items."""
    document: int
    text: str


def judge_items_of(
    scoring_set: ScoringSet, fuzz: Fuzz, words: Words, latent: int, *, train: bool = False
) -> list[Item]:
    """The windows of one latent, held-out ones, and with `train` those that choose a threshold too."""
    items: list[Item] = []
    for side in (False, True) if train else (True,):
        pool = scoring_set.pools[side][scoring_set.silent[side][latent]]
        pool = pool[np.argsort(uniform_hash(latent, pool.astype(np.int64)), kind="stable")]
        kinds = [(TESTS[0], True, scoring_set.positives[side][latent]), (TESTS[0], False, pool)]
        if side:
            kinds.append((TESTS[1], False, scoring_set.hard[latent]))
        for (test, negatives), positive, slots in kinds:
            for slot in slots[slots >= 0][:PER_KIND].tolist():
                text = words.window_text(int(scoring_set.windows[slot]))
                items.append(
                    Item(test, negatives, side, positive, slot, int(scoring_set.document[slot]), text)
                )
        mine = fuzz.items[side][latent]
        for at in mine[mine >= 0][:PER_KIND].tolist():
            for odd in (0, 1):
                text = marked_text(fuzz, words, at + odd)
                items.append(Item(*TESTS[2], side, odd == 0, at + odd, int(fuzz.document[at]), text))
    return items


def marked_text(fuzz: Fuzz, words: Words, item: int) -> str:
    """The window of an item, its marked words between ⟦ and ⟧."""
    document = int(np.searchsorted(words.document, fuzz.document[item]))
    first, last = int(words.first[document]), int(words.first[document + 1])
    middle = first + int(fuzz.position[item])
    start = max(first, min(middle - words.window * 2 // 3, last - words.window))
    marked = set(fuzz.marked[item].indices.tolist())
    out = []
    for at in range(start, min(start + words.window, last)):
        piece = words.pieces[words.piece[at]].replace(_OPEN, "[").replace(_CLOSE, "]")
        out.append(f"{_OPEN}{piece}{_CLOSE}" if int(words.word[at]) in marked else piece)
    return "".join(out).replace(_CLOSE + _OPEN, "")


class _Said(NamedTuple):
    """What a judge says of the items, None where it said nothing."""

    items: dict[int, list[Item]]
    fits: dict[int, list[float | None]]

    def side(self, test: str, negatives: str, held_out: bool, positive: bool) -> Side:
        """The positives or negatives of a test, (L, most items of a latent)."""
        rows = [
            [
                (fit, item.document)
                for item, fit in zip(items, self.fits.get(j, ()), strict=False)
                if fit is not None
                and (item.test, item.held_out, item.positive) == (test, held_out, positive)
                and (positive or item.negatives == negatives)
            ]
            for j, items in self.items.items()
        ]
        width = max([len(row) for row in rows] + [1])
        fit, mask = np.zeros((len(rows), width), np.float32), np.zeros((len(rows), width), bool)
        document = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            for k, (value, where) in enumerate(row):
                fit[i, k], mask[i, k], document[i, k] = value, True, where
        return Side(fit, mask, document)


class _Marks(NamedTuple):
    """Of L latents in one test; NaN where it has too few items."""

    accuracy: np.ndarray
    """(L, 1 + R): balanced accuracy, and in each resampling of the documents."""
    f1: np.ndarray
    auprc: np.ndarray
    n_positive: np.ndarray
    n_negative: np.ndarray
    cut: np.ndarray
    """The least fit that counts as a yes."""


def _mark(said: _Said, test: str, negatives: str, threshold: float | None, weights: np.ndarray) -> _Marks:
    yes, no = (said.side(test, negatives, True, positive) for positive in (True, False))
    if threshold is None:
        cut = measures.best_thresholds(*(said.side(test, "random", False, p) for p in (True, False)))
    else:
        cut = np.full(len(said.items), threshold)
    enough = (yes.mask.sum(1) >= MIN_WINDOWS) & (no.mask.sum(1) >= MIN_WINDOWS) & np.isfinite(cut)
    blank = np.where(enough, 0, np.nan)
    hit, wrong = (measures.yes_rate(part, cut, weights) for part in (yes, no))
    return _Marks(
        measures.balanced_accuracy(hit, wrong) + blank[:, None],
        measures.f1(hit[:, 0], wrong[:, 0]) + blank,
        measures.auprc(yes, no) + blank,
        yes.mask.sum(1),
        no.mask.sum(1),
        cut,
    )


def score_judge_items(
    judge_items: dict[int, list[Item]],
    fits: dict[int, list[float | None]],
    others: dict[int, list[float | None]],
    *,
    threshold: float | None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of label_scores and label_examples (`at` for window) without method and scorer.

    `fits`: per latent, what the judge says of each of its items, None where it said nothing; `others`: the same for
    another latent's label, or nothing. `threshold` None: chosen on the items that aren't held out.
    """
    n_documents = 1 + max((i.document for items in judge_items.values() for i in items), default=0)
    weights = exponential_weights(n_documents, measures.REPLICATES, seed)
    own, other = _Said(judge_items, fits), _Said(judge_items, others)
    scores, examples = [], []
    for test, negatives in TESTS:
        marks = _mark(own, test, negatives, threshold, weights)
        accuracy = marks.accuracy
        if others:
            guess = _mark(other, test, negatives, threshold, weights).accuracy
        else:
            guess = np.full(accuracy.shape, np.nan)
        low, high = percentile_interval(accuracy[:, 1:])
        scores.append(
            pd.DataFrame(
                {
                    "latent": list(judge_items),
                    "test": test,
                    "negatives": negatives,
                    "balanced_accuracy": accuracy[:, 0],
                    "ci_low": low,
                    "ci_high": high,
                    "f1": marks.f1,
                    "auprc": marks.auprc,
                    "shuffled": guess[:, 0],
                    "gain_low": percentile_interval((accuracy - guess)[:, 1:])[0],
                    "n_positive": marks.n_positive,
                    "n_negative": marks.n_negative,
                }
            )
        )
        examples += _examples(own, test, negatives, marks.cut)
    columns = ["latent", "test", "negatives", "positive", "at", "judged", "fit"]
    return pd.concat(scores, ignore_index=True), pd.DataFrame(examples, columns=columns)


def _examples(
    said: _Said, test: str, negatives: str, cut: np.ndarray
) -> list[tuple[int, str, str, bool, int, bool, float]]:
    """Of each held-out item of a test that was judged, how."""
    return [
        (j, test, negatives, item.positive, item.at, bool(fit > cut[i]), fit)
        for i, (j, items) in enumerate(said.items.items())
        for item, fit in zip(items, said.fits.get(j, ()), strict=False)
        if fit is not None and item.held_out and (item.test, item.negatives) == (test, negatives)
    ]
