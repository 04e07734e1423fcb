"""Explainers compared on the same latents: score, agreement, cost and failures (a check the MNEME paper asks for)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme.interpret.clients.base import method_of
from mneme.interpret.clients.factory import identity
from mneme.interpret.clients.response_cache import Prompt, ResponseCache
from mneme.interpret.explainers.names import OFFLINE, budget_of
from mneme.interpret.label_config import LabelConfig
from mneme.stats.bootstrap import mean_interval, redraws

_REPLICATES = 2000


class Comparison(NamedTuple):
    """Frames with the columns of the run's tables label_comparison and label_agreement."""

    methods: pd.DataFrame
    pairs: pd.DataFrame


def compare_explainers(
    labels: pd.DataFrame,
    prompts: Mapping[int, Prompt],
    config: LabelConfig,
    folder: str | Path,
    embed: Callable[[list[str]], np.ndarray],
    categories: np.ndarray,
    *,
    seed: int = 0,
) -> Comparison:
    """Compare the explainers of `config.compare` on the latents that were asked about.

    `labels`: latent, label, method, score, score_shuffled. `prompts`: the questions, by latent. `folder`: of the
    kept replies. `embed`: n texts -> (n, e) unit rows. `categories` (C, e): unit rows of the categories; a label's
    category is the nearest. Scores are means over the latents that every method with labels has a score on, with a
    95% interval over latents; costs are of all that the labels took, whenever it was paid.
    """
    responses, latents = ResponseCache(folder), list(prompts)
    names = {OFFLINE if name == OFFLINE else method_of(name): name for name in config.compare}
    methods = list(names)
    mine = labels[labels.latent.isin(latents) & labels.method.isin(methods)]
    wide = mine.pivot_table(index="latent", columns="method", values=["score", "score_shuffled"])
    scores = wide.reindex(columns=pd.MultiIndex.from_product([["score", "score_shuffled"], methods]))
    own = pd.DataFrame(scores["score"])
    # An explainer without any label hides no other's score.
    both = own.loc[:, own.notna().any()].dropna().index
    rows = []
    for method, name in names.items():
        found = scores["score"][method].loc[both].to_numpy()
        low, high = _interval(found, seed)
        rows.append(
            {
                "method": method,
                "n_asked": len(latents),
                "n_labelled": int((mine.method == method).sum()),
                "n_scored": int(np.isfinite(found).sum()),
                "score": _mean(found),
                "ci_low": low,
                "ci_high": high,
                "score_shuffled": _mean(scores["score_shuffled"][method].loc[both].to_numpy()),
                **_cost(name, prompts, responses, config),
            }
        )
    return Comparison(pd.DataFrame(rows), _agreement(mine, methods, embed, categories))


def _agreement(
    labels: pd.DataFrame,
    methods: list[str],
    embed: Callable[[list[str]], np.ndarray],
    categories: np.ndarray,
) -> pd.DataFrame:
    """A row a pair of methods: method, other, n, cosine, same_category."""
    vectors, latents = {}, {}
    for method in methods:
        own = labels[labels.method == method].sort_values("latent")
        latents[method] = own.latent.to_numpy()
        vectors[method] = embed(own.label.tolist()) if len(own) else np.zeros((0, categories.shape[1]))
    rows = []
    for i, method in enumerate(methods):
        for other in methods[i + 1 :]:
            both, a, b = np.intersect1d(latents[method], latents[other], return_indices=True)
            one, two = vectors[method][a], vectors[other][b]
            same = (one @ categories.T).argmax(1) == (two @ categories.T).argmax(1) if len(both) else []
            cosine = _mean((one * two).sum(1))
            rows.append((method, other, len(both), cosine, _mean(np.asarray(same, dtype=float))))
    return pd.DataFrame(rows, columns=["method", "other", "n", "cosine", "same_category"])


def _cost(
    name: str, prompts: Mapping[int, Prompt], responses: ResponseCache, config: LabelConfig
) -> dict[str, float | int | None]:
    """Of the replies that are kept. seconds: of the requests, one after the other."""
    if name == OFFLINE:
        return {"tokens": 0, "money": 0.0, "seconds": None}
    whose, prices = identity(name, reply_tokens=config.max_tokens), budget_of(name, config).prices
    paid = [r for r in (responses.get(p.key(whose)) for p in prompts.values()) if r is not None]
    prompt, reply = sum(r.prompt_tokens for r in paid), sum(r.reply_tokens for r in paid)
    return {
        "tokens": prompt + reply,
        "money": prices.cost(prompt, reply) if prices is not None else None,
        "seconds": sum(r.seconds for r in paid),
    }


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """95% percentile bootstrap of the mean, over latents."""
    if len(values) < 2:
        return float("nan"), float("nan")
    return mean_interval(values, redraws(len(values), _REPLICATES, np.random.default_rng(seed)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
