"""Labels judged by the sentence encoder: detection and fuzzing, random and hard negatives, own and other labels.

A threshold on the fit is chosen on training documents and judged on held-out ones; hard negatives are judged with the
threshold of the random ones. The same is done with other latents' labels: the mean of what they get is `shuffled`. The
resampling of documents is one for all latents, so that means over latents have intervals too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.scorers import measures
from mneme.interpret.scorers.fuzz import Fuzz, fuzz_fits
from mneme.interpret.scorers.measures import Side
from mneme.interpret.scorers.scoring_set import MIN_WINDOWS, ScoringSet
from mneme.interpret.scorers.text_fit import content, fit, shuffled, word_weights
from mneme.stats.bootstrap import exponential_weights, percentile_interval

SCORER = "encoder"
TESTS = (("detection", "random"), ("detection", "hard"), ("fuzzing", "random"))
GUESSES = 4  # other latents' labels that each latent is judged with
_BLOCK = 512  # labels at a time
_EXAMPLES = 5  # kept of each kind


class Scores(NamedTuple):
    """Frames with the columns of the run's tables label_scores, label_examples (slot, item for window, marked)
    and label_summary."""

    scores: pd.DataFrame
    examples: pd.DataFrame
    summary: pd.DataFrame


class Marks(NamedTuple):
    """What L labels get in one test. NaN: too few windows."""

    accuracy: np.ndarray
    """(L, 1 + R) balanced accuracy, and as the documents are resampled."""
    f1: np.ndarray
    auprc: np.ndarray
    n_positive: np.ndarray
    n_negative: np.ndarray


class _Task(NamedTuple):
    """One test of L labels."""

    name: tuple[str, str]
    threshold: np.ndarray
    positive: Side
    negative: Side
    windows: tuple[np.ndarray, np.ndarray]
    """(L, n) slots (fuzzing: items) of both sides."""
    weights: np.ndarray


class _Judge:
    """A scoring set and a fuzzing items, asked block by block."""

    def __init__(self, scoring_set: ScoringSet, fuzz: Fuzz, seed: int) -> None:
        self.scoring_set, self.fuzz = scoring_set, fuzz
        self.weights = exponential_weights(scoring_set.n_documents, measures.REPLICATES, seed)
        documents = np.unique(fuzz.document, return_inverse=True)[1]
        # Windows of one token have nothing to mark: no items. Index 0, which stands for none, must exist all the same.
        self.fuzz_document = documents if len(documents) else np.zeros(1, dtype=np.int64)
        n_documents = int(self.fuzz_document.max()) + 1
        self.fuzz_weights = exponential_weights(n_documents, measures.REPLICATES, seed)

    def tasks(self, latents: np.ndarray, vectors: np.ndarray, wanted: sparse.csr_matrix) -> Iterator[_Task]:
        """Each test of labels (L, e), (L, V), judged on these latents (L,)."""
        scoring_set = self.scoring_set
        near = fit(vectors, wanted, scoring_set.vectors, scoring_set.holds)

        def windows(slots: np.ndarray) -> Side:
            return Side(
                np.take_along_axis(near, np.maximum(slots, 0), 1), slots >= 0, scoring_set.document[slots]
            )

        def pool(side: bool) -> Side:
            slots = scoring_set.pools[side]
            return Side(near[:, slots], scoring_set.silent[side][latents], scoring_set.document[slots])

        yes = {side: windows(scoring_set.positives[side][latents]) for side in (False, True)}
        threshold = measures.best_thresholds(yes[False], pool(False))
        enough = (yes[False].mask.sum(1) >= MIN_WINDOWS) & (
            scoring_set.silent[False][latents].sum(1) >= MIN_WINDOWS
        )
        threshold = np.where(enough, threshold, np.nan)
        positives, hard = scoring_set.positives[True][latents], scoring_set.hard[latents]
        common = np.where(scoring_set.silent[True][latents], scoring_set.pools[True], -1)
        yield _Task(TESTS[0], threshold, yes[True], pool(True), (positives, common), self.weights)
        yield _Task(TESTS[1], threshold, yes[True], windows(hard), (positives, hard), self.weights)
        sides = {side: self._marked(side, latents, vectors, wanted) for side in (False, True)}
        threshold = measures.best_thresholds(*sides[False][0])
        threshold = np.where(sides[False][0][0].mask.sum(1) >= MIN_WINDOWS, threshold, np.nan)
        (own, other), items = sides[True]
        yield _Task(TESTS[2], threshold, own, other, items, self.fuzz_weights)

    def _marked(
        self, side: bool, latents: np.ndarray, vectors: np.ndarray, wanted: sparse.csr_matrix
    ) -> tuple[tuple[Side, Side], tuple[np.ndarray, np.ndarray]]:
        items = self.fuzz.items[side][latents]
        there = items >= 0
        row = np.nonzero(there)[0]
        sides, which = [], []
        for odd in (0, 1):
            near = np.zeros(items.shape, dtype=np.float32)
            near[there] = fuzz_fits(self.fuzz, items[there] + odd, vectors[row], wanted[row])
            sides.append(Side(near, there, self.fuzz_document[np.maximum(items, 0)]))
            which.append(np.where(there, items + odd, -1))
        return (sides[0], sides[1]), (which[0], which[1])


def score_method(
    scoring_set: ScoringSet,
    fuzz: Fuzz,
    labels: pd.DataFrame,
    encoder: SentenceEncoder,
    *,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> Scores:
    """Score labels of one method: columns latent, label, method, a row per latent. Too few windows: NaN.

    Other latents' labels are of the same method.
    """
    n = len(labels)
    latents = labels.latent.to_numpy(np.int64)
    texts = [content(label) for label in labels.label]
    vectors = encoder.embed(texts)
    wanted = word_weights(scoring_set.word_id, scoring_set.rarity, texts)
    # Which label is judged on which latent: its own, then some others'.
    judged = np.stack([np.arange(n), *(shuffled(n, seed + turn) for turn in range(min(GUESSES, n - 1)))])
    judge = _Judge(scoring_set, fuzz, seed)
    rows: list[pd.DataFrame] = []
    window_rows: list[pd.DataFrame] = []
    totals = {test: _Total() for test in TESTS}
    with progress.task("score labels", total=n, unit="labels") as task:
        for begin in range(0, n, _BLOCK):
            here = np.arange(begin, min(begin + _BLOCK, n))
            found: dict[tuple[str, str], list[Marks]] = {test: [] for test in TESTS}
            for turn, which in enumerate(judged[:, here]):
                for test in judge.tasks(latents[here], vectors[which], wanted[which]):
                    found[test.name].append(_marks(test))
                    if turn == 0:
                        window_rows.append(_window_rows(test, latents[here]))
            for name, (own, *others) in found.items():
                rows.append(_rows(latents[here], name, own, others))
                totals[name].add(own, others)
            task.advance(len(here))
    frames = (
        pd.concat(rows, ignore_index=True),
        pd.concat(window_rows, ignore_index=True),
        pd.DataFrame([row for name, total in totals.items() for row in total.rows(name)]),
    )
    return Scores(*(frame.assign(method=labels.method.iloc[0], scorer=SCORER) for frame in frames))


def _marks(task: _Task) -> Marks:
    positive, negative = task.positive, task.negative
    n_positive, n_negative = positive.mask.sum(1), negative.mask.sum(1)
    judged = (n_positive >= MIN_WINDOWS) & (n_negative >= MIN_WINDOWS) & np.isfinite(task.threshold)
    hit = measures.yes_rate(positive, task.threshold, task.weights)
    wrong = measures.yes_rate(negative, task.threshold, task.weights)
    blank = np.where(judged, 0, np.nan)
    return Marks(
        measures.balanced_accuracy(hit, wrong) + blank[:, None],
        measures.f1(hit[:, 0], wrong[:, 0]) + blank,
        measures.auprc(positive, negative) + blank,
        n_positive,
        n_negative,
    )


def _rows(latents: np.ndarray, name: tuple[str, str], own: Marks, others: list[Marks]) -> pd.DataFrame:
    low, high = percentile_interval(own.accuracy[:, 1:])
    guess = np.mean([o.accuracy for o in others], axis=0) if others else np.full(own.accuracy.shape, np.nan)
    return pd.DataFrame(
        {
            "latent": latents,
            "test": name[0],
            "negatives": name[1],
            "balanced_accuracy": own.accuracy[:, 0],
            "ci_low": low,
            "ci_high": high,
            "f1": own.f1,
            "auprc": own.auprc,
            "shuffled": guess[:, 0],
            "gain_low": percentile_interval((own.accuracy - guess)[:, 1:])[0],
            "n_positive": own.n_positive,
            "n_negative": own.n_negative,
        }
    )


def _window_rows(task: _Task, latents: np.ndarray) -> pd.DataFrame:
    """A few windows of each kind, each with what was made of it."""
    parts = []
    for positive, side, window in zip(
        (True, False), (task.positive, task.negative), task.windows, strict=True
    ):
        if positive and task.name == TESTS[1]:
            continue  # the positives of the random negatives
        # Of the common pool other windows for each latent.
        turn = (np.arange(window.shape[1]) + 7 * latents[:, None]) % window.shape[1]
        order = np.argsort(np.where(window >= 0, 0 if positive else turn, window.shape[1]), 1, kind="stable")
        order = order[:, :_EXAMPLES]
        at = np.take_along_axis(window, order, 1)
        near = np.take_along_axis(side.fit, order, 1)
        row, column = np.nonzero((at >= 0) & np.isfinite(task.threshold)[:, None])
        parts.append(
            pd.DataFrame(
                {
                    "latent": latents[row],
                    "test": task.name[0],
                    "negatives": task.name[1],
                    "positive": positive,
                    "at": at[row, column],
                    "judged": near[row, column] > task.threshold[row],
                    "fit": near[row, column],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class _Total:
    """Sums over latents, of their own label and of others'."""

    def __init__(self) -> None:
        self.n = 0
        self.accuracy = np.zeros((2, 1 + measures.REPLICATES))
        self.rest = np.zeros((2, 2))  # f1, auprc

    def add(self, own: Marks, others: list[Marks]) -> None:
        judged = np.isfinite(own.accuracy[:, 0])
        for other in others:
            judged &= np.isfinite(other.accuracy[:, 0])
        self.n += int(judged.sum())
        for place, marks in enumerate(([own], others)):
            for found in marks:
                self.accuracy[place] += found.accuracy[judged].sum(0) / len(marks)
                self.rest[place] += np.array([found.f1[judged].sum(), found.auprc[judged].sum()]) / len(marks)

    def rows(self, name: tuple[str, str]) -> list[dict[str, object]]:
        rows = []
        for place, kind in enumerate(("own", "shuffled")):
            mean = self.accuracy[place] / self.n if self.n else np.full(1 + measures.REPLICATES, np.nan)
            f1, auprc = self.rest[place] / self.n if self.n else (np.nan, np.nan)
            low, high = percentile_interval(mean[1:])
            rows.append(
                {
                    "test": name[0],
                    "negatives": name[1],
                    "labels": kind,
                    "balanced_accuracy": float(mean[0]),
                    "ci_low": float(low),
                    "ci_high": float(high),
                    "f1": float(f1),
                    "auprc": float(auprc),
                    "n": self.n,
                }
            )
        return rows
