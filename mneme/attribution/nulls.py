"""Null pairs: what the method says when nothing changed.

    rounding    the base against itself, with noise the size of a coarser dtype's rounding, and rounded
    seeds       two fine-tunes that differ only in their seed: a ready cache of that pair
    shuffled    the pair's own document sums, base and tuned swapped in a random half of the documents

The first two are read by a crosscoder fitted to the null pair itself, so that the whole method is tested. The
third keeps the pair's dictionary, and so tests the evidence alone: a dictionary fitted to swapped activations rightly
learns each change twice, once in either direction (measured on a planted pair: a third of its latents).

Each gives a false-positive rate (share of live latents called changed) with its interval,
and the first two the margin they ask for: the smallest that at most 1 - level of their latents' intervals clear.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mneme._util.vocabulary import CHANGED
from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import (
    LOG_LIMIT,
    DocumentJoiner,
    DocumentMoments,
    DocumentShares,
    fieller_interval,
    margin_p_values,
)
from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.stream import Attribution, evidence_documents
from mneme.attribution.turns import false_discovery_over, measure_turns, with_redirected
from mneme.attribution.verdicts import decide
from mneme.crosscoder.protocols import SparseDictionary
from mneme.harvest.protocols import Activations
from mneme.stats.proportions import clopper_pearson


def rounding_null(
    cache: Activations, dtype: torch.dtype = torch.bfloat16, seed: int = 0, model: int = 0
) -> MemoryCache:
    """The base (model 1: the tuned) against itself: rounded to `dtype`, after noise of half a step (uniform)."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for x in cache.batches(4096):
        base = x[:, model].float()
        step = base.abs() * torch.finfo(dtype).eps
        noise = (torch.rand(base.shape, generator=generator) - 0.5) * step
        parts.append(torch.stack([base, (base + noise).to(dtype).float()], dim=1))
    return MemoryCache(torch.cat(parts), cache.document, cache.position)


@torch.no_grad()
def shuffled_null(
    crosscoder: SparseDictionary,
    cache: Activations,
    config: AttributionConfig | None = None,
    reference: float = 0.0,
    seed: int = 0,
) -> pd.DataFrame:
    """The pair with base and tuned swapped in a random half of the documents: one row of the `nulls` table.

    The dictionary stays as it is: its latents' document shares are what is swapped, the tuned ones without the scale
    that most latents share (`reference`). Then both models' shares are exchangeable and no ratio differs from 1, while
    the spread between documents is the pair's own, that of its changes included. Directions are the same mixture too.
    """
    config = config or AttributionConfig()
    geometry = make_geometry(crosscoder, config.redirected_cosine, config.redirected_norm)
    ids = np.unique(cache.document)
    order = np.random.default_rng(seed).permutation(len(ids))
    swapped = ids[order[: len(ids) // 2]]
    joiner, moments = DocumentJoiner(geometry), DocumentMoments(geometry.n_latents)
    counts = evidence_documents(crosscoder, cache)

    def add(rows: DocumentShares) -> None:
        if counts is not None:
            rows = DocumentShares(*(part[counts[rows.document]] for part in rows))
        shares = rows.shares * np.array([1.0, np.exp(-reference)])
        mine = np.isin(rows.document, swapped)
        shares[mine] = shares[mine][:, ::-1]
        moments.update(rows._replace(shares=shares))

    start = 0
    for x in cache.batches(config.batch_size):
        here = slice(start, start + len(x))
        add(joiner.push(encode_pair_sums(crosscoder, geometry, x, cache.document[here])[0]))
        start += len(x)
    last = joiner.finish()
    if last is not None:
        add(last)
    low, high = fieller_interval(moments, config.level)
    dead = moments.n == 0
    p = np.where(dead, np.nan, margin_p_values(moments, config.margin))
    turns = measure_turns(
        crosscoder,
        geometry,
        cache,
        np.flatnonzero(geometry.turned),
        config.redirected_cosine,
        level=config.level,
        documents=counts,
        swapped=swapped,
        batch_size=config.batch_size,
    )
    q, columns = false_discovery_over(p, turns)
    verdict = decide(low, high, q, dead, config.margin, 0.0, config.fdr)
    verdict = with_redirected(
        pd.DataFrame({"verdict": verdict, **columns}), config.redirected_cosine, config.fdr
    )
    # no margin: a latent that only one model holds differs between halves of the documents by chance, and widely
    return _row("shuffled", pd.Series(verdict), float("nan"), config)


def null_row(kind: str, found: Attribution, config: AttributionConfig) -> pd.DataFrame:
    """The `nulls` row of a null pair's attribution: rate and its interval, margin, detail.

    The interval is Clopper and Pearson's, latents taken for independent.

    kind: the null pair's name.
    """
    judged = (found.latents["verdict"] != "dead") & (found.latents["n_documents"] > 1)
    live = found.latents[judged].dropna(subset=["log_ratio"])
    # an end that is not known clears nothing
    low, high = (
        live[name].fillna(end).to_numpy(float)
        for name, end in (("ci_low", -LOG_LIMIT), ("ci_high", LOG_LIMIT))
    )
    cleared = np.maximum(np.maximum(low - found.reference, found.reference - high), 0.0)
    margin = float(np.quantile(cleared, config.level)) if len(cleared) else float("nan")
    return _row(kind, found.latents["verdict"], margin, config)


def _row(kind: str, verdict: pd.Series, margin: float, config: AttributionConfig) -> pd.DataFrame:
    n, n_false = int((verdict != "dead").sum()), int(verdict.isin(CHANGED).sum())
    low, high = clopper_pearson(n_false, n, config.level)
    detail = {
        "counts": {str(word): int(count) for word, count in verdict.value_counts().items()},
        "judged_with_margin": config.margin,
    }
    return pd.DataFrame(
        {
            "kind": [kind],
            "n": n,
            "n_false": n_false,
            "rate": n_false / n if n else np.nan,
            "ci_low": low,
            "ci_high": high,
            "margin": margin,
            "detail": json.dumps(detail),
        }
    )


def calibrated(asked: pd.Series, least: float) -> float:
    """What to judge real pairs with: the largest threshold that any null asks for, but at least `least`."""
    asked = asked.dropna()
    return max(least, float(asked.max())) if len(asked) else least


def side_effect_found(latents: pd.DataFrame, null_rate: float = 0.0, level: float = 0.95) -> bool:
    """Whether a pair shows any change: more latents are called than null pairs of that rate would give.

    latents: a frame with `verdict`. False is the verdict "no side effect found". One-sided binomial test of
    the number of amplified and suppressed latents against `null_rate`, the largest measured false-positive
    rate.
    """
    verdict = latents["verdict"]
    n, called = int((verdict != "dead").sum()), int(verdict.isin(CHANGED).sum())
    if called == 0:
        return False
    return bool(stats.binomtest(called, n, null_rate, alternative="greater").pvalue < 1 - level)
