"""Null pairs: what the method says when nothing changed.

Three kinds, each read by a crosscoder fitted to the null pair itself (`fit`), so that the whole method is
tested and not only its last step:

    rounding    the base against itself, with noise the size of a coarser dtype's rounding, and rounded
    swapped     the pair, its two members swapped in a random half of the documents: whatever differs then
                differs in neither direction (an exchangeable null; it keeps the pair's own noise)
    seeds       two fine-tunes that differ only in their seed: a ready cache of that pair

Each gives a false-positive rate (share of live latents called amplified or suppressed) with its interval,
and the margin that it asks for: the change that all but 1 - level of its latents stay below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mneme.attribution.attribute import Attribution, attribute
from mneme.attribution.config import AttributionConfig
from mneme.attribution.memory import MemoryCache
from mneme.progress import NULL_PROGRESS, Progress


def rounding_null(cache: Any, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> MemoryCache:
    """The base against itself: rounded to `dtype`, after noise of half a rounding step (uniform)."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for x in cache.batches(4096):
        base = x[:, 0].float()
        step = base.abs() * torch.finfo(dtype).eps
        noise = (torch.rand(base.shape, generator=generator) - 0.5) * step
        parts.append(torch.stack([base, (base + noise).to(dtype).float()], dim=1))
    return MemoryCache(torch.cat(parts), cache.document, cache.position)


def swapped_null(cache: Any, seed: int = 0) -> MemoryCache:
    """The pair, its members swapped in a random half of the documents."""
    rng = np.random.default_rng(seed)
    ids, which = np.unique(cache.document, return_inverse=True)
    chosen = np.zeros(len(ids), dtype=bool)
    chosen[rng.permutation(len(ids))[: len(ids) // 2]] = True
    swap = torch.from_numpy(chosen[which])
    parts, start = [], 0
    for x in cache.batches(4096):
        mine = swap[start : start + len(x), None, None]
        parts.append(torch.where(mine, x.flip(1), x).float())
        start += len(x)
    return MemoryCache(torch.cat(parts), cache.document, cache.position)


def run_null(
    kind: str,
    cache: Any,
    fit: Callable[[Any], Any],
    config: AttributionConfig | None = None,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Fit a crosscoder to a null pair's cache and attribute it: one row, columns of the `nulls` table.

    kind: its name. fit: cache -> crosscoder, e.g. train_crosscoder with the run's settings.
    """
    config = config or AttributionConfig()
    return null_row(kind, attribute(fit(cache), cache, None, config, progress), config)


def null_row(kind: str, found: Attribution, config: AttributionConfig) -> pd.DataFrame:
    """The `nulls` row of a null pair's attribution: rate and its Clopper-Pearson interval, margin, detail."""
    verdict = found.latents["verdict"]
    live = verdict != "dead"
    n, n_false = int(live.sum()), int(verdict.isin(("amplified", "suppressed")).sum())
    low, high = binomial_interval(n_false, n, config.level)
    change = (found.latents.loc[live, "log_ratio"] - found.reference).abs().dropna()
    margin = float(np.quantile(change, config.level)) if len(change) else float("nan")
    detail = {
        "counts": {str(k): int(v) for k, v in verdict.value_counts().items()},
        "judged_with_margin": config.margin,
        "median_change": float(change.median()) if len(change) else None,
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


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of a rate, latents taken for independent; NaN of nothing."""
    if n == 0:
        return float("nan"), float("nan")
    found = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def calibrated_margin(nulls: pd.DataFrame, least: float) -> float:
    """The margin to judge real pairs with: the largest that any null asks for, but at least `least`."""
    asked = nulls["margin"].dropna()
    return max(least, float(asked.max())) if len(asked) else least


def side_effect_found(latents: pd.DataFrame, null_rate: float = 0.0, level: float = 0.95) -> bool:
    """Whether a pair shows any change: more latents are called than null pairs of that rate would give.

    latents: a frame with `verdict`. False is the verdict "no side effect found". One-sided binomial test of
    the number of amplified and suppressed latents against `null_rate`, the largest measured false-positive
    rate.
    """
    verdict = latents["verdict"]
    n, called = int((verdict != "dead").sum()), int(verdict.isin(("amplified", "suppressed")).sum())
    if called == 0:
        return False
    return bool(stats.binomtest(called, n, null_rate, alternative="greater").pvalue < 1 - level)
