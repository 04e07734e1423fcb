"""All labels of a run through the scoring_set, method by method, with the baseline of latents that fire at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts
from mneme.interpret.corpus_words import Words
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.scorers.detection import SCORER, score_method
from mneme.interpret.scorers.fuzz import Fuzz, set_fuzz
from mneme.interpret.scorers.judge_items import Item, judge_items_of
from mneme.interpret.scorers.llm_scorer import LLMScores
from mneme.interpret.scorers.random_latent_baseline import random_latent_scores
from mneme.interpret.scorers.scoring_set import ScoringSet, make_scoring_set
from mneme.interpret.selection import Codes

_TEXT = 300  # characters kept of a window
_ALL_EXAMPLES = 400_000  # rows of label_examples; above, only the first latents asked for have theirs


class LabelScores(NamedTuple):
    """Frames with the columns of the run's tables; `labels` is what was given, with its scores."""

    labels: pd.DataFrame
    label_scores: pd.DataFrame
    label_examples: pd.DataFrame
    label_windows: pd.DataFrame
    label_summary: pd.DataFrame
    failures: pd.DataFrame
    """latent, method, reason: what a judging model was asked and did not say."""


Judge = Callable[[dict[int, str], dict[int, list[Item]]], LLMScores]
"""Labels by latent and the windows to judge them on -> what a language model says."""


class Judging(NamedTuple):
    """A language model that judges the labels of some latents."""

    judge: Judge
    latents: np.ndarray
    """(n,): whose labels it judges."""


class Scene(NamedTuple):
    """Where latents fire, and the text that labels are tried on."""

    contexts: Contexts
    neighbours: pd.DataFrame
    """Columns latent, kind, rank, neighbour, for hard negatives."""
    codes: Codes
    cache: Texts
    words: Words


def score_labels(
    labels: pd.DataFrame,
    scene: Scene,
    encoder: SentenceEncoder,
    config: InterpretConfig,
    *,
    first: np.ndarray | None = None,
    most: int = 6000,
    judging: Judging | None = None,
    progress: Progress = NULL_PROGRESS,
) -> LabelScores:
    """Score labels (columns latent, label, method, ...).

    `first`: latents whose examples are kept before others'. `most`: windows of text that are embedded. `judging`: by
    a language model, beside the encoder.
    """
    contexts, neighbours, codes, cache, words = scene
    rows = cache.document, cache.position
    scoring_set = make_scoring_set(
        contexts, neighbours, codes, rows, words, encoder, config, progress, most=most
    )
    fuzz = set_fuzz(contexts, words, encoder, config.seed, progress)
    found = [
        score_method(
            scoring_set, fuzz, own.reset_index(drop=True), encoder, seed=config.seed, progress=progress
        )
        for _, own in labels.groupby("method", sort=True)
    ]
    scores, examples, summary = (pd.concat(frames, ignore_index=True) for frames in zip(*found, strict=True))
    with progress.task("score labels of random latents", total=None):
        random_latent = random_latent_scores(scoring_set, contexts.n_active, cache, words, encoder, config)
    failures = pd.DataFrame({"latent": [], "method": [], "reason": []})
    if judging is not None and len(judging.latents):
        judge_items = {
            int(j): judge_items_of(scoring_set, fuzz, words, int(j), train=True) for j in judging.latents
        }
        for method, own in labels[labels.latent.isin(judging.latents)].groupby("method", sort=True):
            named = dict(zip(own.latent.astype(int).tolist(), own.label.tolist(), strict=True))
            said = judging.judge(named, {j: judge_items[j] for j in named})
            scores = pd.concat([scores, said.scores.assign(method=method)], ignore_index=True)
            examples = pd.concat([said.examples.assign(method=method), examples], ignore_index=True)
            summary = pd.concat([summary, mean_scores(said.scores).assign(method=method)], ignore_index=True)
            failures = pd.concat([failures, said.failures], ignore_index=True)
    examples, windows = with_windows(keep_examples(examples, first), scoring_set, fuzz, words)
    return LabelScores(
        with_headline(labels, scores),
        scores,
        examples,
        windows,
        pd.concat([summary, random_latent], ignore_index=True),
        failures,
    )


def mean_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of label_summary from rows of label_scores, without intervals; latents whose other label was judged too."""
    rows = []
    for (scorer, test, negatives), own in scores.dropna(subset="shuffled").groupby(
        ["scorer", "test", "negatives"]
    ):
        mean = own[["balanced_accuracy", "f1", "auprc", "shuffled"]].mean()
        kind = {"scorer": scorer, "test": test, "negatives": negatives, "n": len(own)}
        marks = {name: mean[name] for name in ("balanced_accuracy", "f1", "auprc")}
        rows.append({**kind, "labels": "own", **marks})
        rows.append({**kind, "labels": "shuffled", "balanced_accuracy": mean["shuffled"]})
    return pd.DataFrame(rows)


def with_headline(labels: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The labels, with score, score_shuffled and gain_low: detection against random negatives."""
    own = scores[(scores.scorer == SCORER) & (scores.test == "detection") & (scores.negatives == "random")]
    own = own[["latent", "method", "balanced_accuracy", "shuffled", "gain_low"]].rename(
        columns={"balanced_accuracy": "score", "shuffled": "score_shuffled"}
    )
    bare = labels.drop(columns=["score", "score_shuffled", "gain_low"], errors="ignore")
    return bare.merge(own, on=["latent", "method"], how="left")


def keep_examples(
    examples: pd.DataFrame, first: np.ndarray | None, most: int = _ALL_EXAMPLES
) -> pd.DataFrame:
    """All rows, or those of as many latents as make at most `most` rows: `first` before others."""
    if len(examples) <= most:
        return examples
    order = np.concatenate([first if first is not None else [], np.unique(examples.latent)]).astype(np.int64)
    order = order[np.sort(np.unique(order, return_index=True)[1])]
    total = np.cumsum(examples.latent.value_counts().reindex(order, fill_value=0).to_numpy())
    return examples[examples.latent.isin(order[total <= most])].reset_index(drop=True)


def with_windows(
    examples: pd.DataFrame, scoring_set: ScoringSet, fuzz: Fuzz, words: Words
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of label_examples and of label_windows."""
    at = examples["at"].to_numpy(np.int64)
    fuzzing = (examples.test == "fuzzing").to_numpy()
    window = np.empty(len(examples), dtype=np.int64)
    window[~fuzzing] = scoring_set.windows[at[~fuzzing]]
    items = at[fuzzing]
    window[fuzzing] = words.window_of(fuzz.document[items], fuzz.position[items])
    chosen = fuzz.marked[items]
    names = [words.vocabulary[w] or "line break" for w in chosen.indices]
    marked = pd.Series([None] * len(examples), dtype=object)
    marked[fuzzing] = [
        ", ".join(names[a:b]) for a, b in zip(chosen.indptr[:-1], chosen.indptr[1:], strict=True)
    ]
    used = np.unique(window)
    which = np.searchsorted(words.window_first, used, side="right") - 1
    windows = pd.DataFrame(
        {
            "window": used,
            "document": words.document[which],
            "position": (used - words.window_first[which]) * words.window,
            "text": [words.window_text(int(w))[:_TEXT] for w in used],
        }
    )
    return examples.drop(columns="at").assign(window=window, marked=marked.to_numpy()), windows
