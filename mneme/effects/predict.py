"""What the changed latents say about each category: how large a change, which way, made by which latents.

    effect_c    = sum over changed latents j, over the category's tokens, of f_j step_j / (tokens x typical)
    step_j      = how far one unit of the latent moves the tuned model from the base (sums.py)
    typical     = the base's root-mean-square deviation from its mean

    reach_c     = mean over the category's tokens of 1 - exp(-r_w / affected_share_scale), r_w the mean over the token's
                  window of what is confirmed of the latents' change (explained.py), as a share of typical

so an effect of 0.1 means: on the category's text, changed latents move the average token by a tenth of what
tokens usually differ by. Latents count as changed by their verdict: amplified, suppressed or redirected.
Reach says how much of the text is touched at all: one window moved a hundred times affected_share_scale counts as
one. What a benchmark asks of a category is spread over it, so a category whose effect hangs on a few passages, which
may not even belong to it, reaches little.
The size says nothing about better or worse: the direction comes from behaviour, the change of next-token NLL
on the same text. Intervals are over documents (mneme/stats/bootstrap.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from mneme._util.vocabulary import AMPLIFIED, REDIRECTED, SUPPRESSED
from mneme.attribution.verdicts import common_log_ratio
from mneme.effects.category_verdicts import category_verdicts
from mneme.effects.config import EffectsConfig
from mneme.effects.sums import CodeSums, latent_steps
from mneme.effects.windows import Windows, per_document
from mneme.harvest.protocols import Rows
from mneme.stats.bootstrap import Ratio, departures, ratio_intervals, unseen_unit_intervals
from mneme.stats.moments import effective_number

_REPLICATES = 2000
"""Of the NLL change, whose interval's ends lie far out in the tails."""


class Behaviour(NamedTuple):
    """Per category: change of NLL and KL(base || tuned), nats per token, where they were measured."""

    nll_change: Ratio
    kl: Ratio
    documents: np.ndarray
    """(C,): documents that the NLL change was measured on; of unequal weight they count as fewer (Kish)."""


def changed_steps(latents: pd.DataFrame) -> np.ndarray:
    """(2, F): the steps of amplified and of suppressed latents, 0 elsewhere, raw units.

    A redirected latent counts on the side its log_ratio points to.
    """
    step = latent_steps(latents)
    verdict = latents["verdict"].to_numpy()
    grew = latents["log_ratio"].fillna(0).to_numpy() >= 0
    redirected = verdict == REDIRECTED
    amplified = (verdict == AMPLIFIED) | (redirected & grew)
    suppressed = (verdict == SUPPRESSED) | (redirected & ~grew)
    return np.stack([step * amplified, step * suppressed])


def measure_behaviour(cache: Rows, windows: Windows, weights: np.ndarray, config: EffectsConfig) -> Behaviour:
    """NLL change and KL on each category's text, over the tokens where they were measured."""
    change = (cache.nll_tuned - cache.nll_base).astype(np.float64)
    total, count = _by_window(change, windows)
    tokens = per_document(weights, windows.document, count)
    summed = per_document(weights, windows.document, total)
    nll = unseen_unit_intervals(
        summed,
        tokens,
        departures(summed, tokens),
        replicates=max(config.replicates, _REPLICATES),
        level=config.level,
        seed=config.seed,
    )
    kl = mean_over_documents(weights, windows, *_by_window(cache.kl.astype(np.float64), windows), config)
    return Behaviour(nll, kl, effective_documents(tokens))


def _by_window(values: np.ndarray, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """(W,) both: the sum of what is known of `values` (N,) over a window's tokens, and how many that are."""
    known = np.isfinite(values)
    window, size = windows.row_window[known], len(windows.document)
    total = np.bincount(window, weights=values[known], minlength=size)
    return total, np.bincount(window, minlength=size).astype(np.float64)


def effective_documents(tokens: sparse.csr_array) -> np.ndarray:
    """(C,): documents that a mean over `tokens` (D, C) rests on, (sum t)^2 / sum t^2; 0 without any (Kish 1965)."""
    whole, squares = (np.asarray(x.sum(0)).ravel() for x in (tokens, tokens.multiply(tokens)))
    found: np.ndarray = np.nan_to_num(effective_number(whole, squares))
    return found


def mean_over_documents(
    weights: np.ndarray, windows: Windows, total: np.ndarray, count: np.ndarray, config: EffectsConfig
) -> Ratio:
    """Each category's weighted mean of total / count, both (W,), with an interval over documents."""
    return ratio_intervals(
        per_document(weights, windows.document, total),
        per_document(weights, windows.document, count),
        replicates=config.replicates,
        level=config.level,
        seed=config.seed,
    )


class Whole(NamedTuple):
    """Behaviour on all of the run's text; NaN where it was not measured."""

    nll_change: tuple[float, float, float]
    """Mean change of next-token NLL and its interval over documents, nats per token."""
    kl: float
    """Mean KL(base || tuned), nats per token."""
    common: float
    """The NLL change that most documents share (`common_log_ratio`), nats per token; 0 where fewer than 20 tell it."""


def whole_behaviour(cache: Rows, config: EffectsConfig) -> Whole:
    """NLL change and KL over every token where they were measured."""
    change = (cache.nll_tuned - cache.nll_base).astype(np.float64)
    known = np.isfinite(change)
    n = int(cache.document.max(initial=-1)) + 1
    total, count = (
        sparse.csr_array(np.bincount(cache.document[known], weights=weights, minlength=n)[:, None])
        for weights in (change[known], None)
    )
    found = ratio_intervals(
        total,
        count.astype(np.float64),
        replicates=config.replicates,
        level=config.level,
        seed=config.seed,
    )
    kl = cache.kl[np.isfinite(cache.kl)].astype(np.float64)
    nll = (float(found.value[0]), float(found.low[0]), float(found.high[0]))
    of_documents = (total.toarray() / np.maximum(count.toarray(), 1))[count.toarray() > 0]
    return Whole(nll, float(kl.mean()) if len(kl) else float("nan"), common_log_ratio(of_documents))


def predict(
    keys: list[str],
    windows: Windows,
    weights: np.ndarray,
    sums: CodeSums,
    confirmed: np.ndarray,
    typical: float,
    behaviour: Behaviour,
    config: EffectsConfig,
    common: float = 0.0,
) -> pd.DataFrame:
    """Table `effects`, a row per category.

    sums.moved[0] and [1]: amplified and suppressed (changed_steps); confirmed: (W,), sums over a window's rows;
    common: Whole.common.
    """
    rows = windows.n_rows.astype(np.float64)
    scale = typical if typical > 0 else np.nan
    total, up, down = (
        mean_over_documents(weights, windows, moved / scale, rows, config)
        for moved in (sums.moved[0] + sums.moved[1], sums.moved[0], sums.moved[1])
    )
    affected = affected_share_of(weights, windows, confirmed, typical, config)
    amount = amount_of_text(weights, windows)
    frame = pd.DataFrame(
        {
            "category": keys,
            "effect": total.value,
            "ci_low": total.low,
            "ci_high": total.high,
            "affected_share": affected.value,
            "affected_share_low": affected.low,
            "affected_share_high": affected.high,
            "nll_change": behaviour.nll_change.value,
            "nll_low": behaviour.nll_change.low,
            "nll_high": behaviour.nll_change.high,
            "kl": behaviour.kl.value,
            "amplified": up.value,
            "suppressed": down.value,
            "n_tokens": amount["n_tokens"],
            "n_documents": amount["n_documents"],
        }
    )
    said = category_verdicts(
        affected,
        behaviour.nll_change,
        amount["documents"].to_numpy(),
        behaviour.documents,
        config,
        common,
    )
    return frame.assign(intended=[key in config.intended for key in keys], **said._asdict())


def affected_share_of(
    weights: np.ndarray, windows: Windows, confirmed: np.ndarray, typical: float, config: EffectsConfig
) -> Ratio:
    """Each category's affected share. weights: (W, C); confirmed: (W,), sums over a window's rows, raw units."""
    rows = windows.n_rows.astype(np.float64)
    share = confirmed / (typical if typical > 0 else np.nan)
    return mean_over_documents(
        weights, windows, saturated(share, rows, config.affected_share_scale), rows, config
    )


def saturated(total: np.ndarray, rows: np.ndarray, scale: float) -> np.ndarray:
    """(W,): each window's rows, times 1 - exp(-mean / scale), mean = total / rows. total, rows: (W,)."""
    mean = np.divide(total, rows, out=np.zeros(len(rows)), where=rows > 0)
    found: np.ndarray = rows * -np.expm1(-mean / scale)
    return found


def amount_of_text(weights: np.ndarray, windows: Windows) -> pd.DataFrame:
    """Per category: n_tokens, n_documents (rounded) and documents (weights of windows added up, not rounded).

    A document counts with the share of its rows that the category has.
    """
    tokens = per_document(weights, windows.document, windows.n_rows.astype(np.float64))
    size = np.bincount(windows.document, weights=windows.n_rows, minlength=tokens.shape[0])
    share = tokens.multiply(1 / np.maximum(size, 1)[:, None])
    documents = np.asarray(share.sum(0)).ravel()
    return pd.DataFrame(
        {
            "n_tokens": np.rint(np.asarray(tokens.sum(0)).ravel()).astype(np.int64),
            "n_documents": np.rint(documents).astype(np.int64),
            "documents": documents,
        }
    )


def group_parts(
    keys: list[str],
    firing: np.ndarray,
    steps: np.ndarray,
    tokens: np.ndarray,
    typical: float,
    group: np.ndarray,
) -> pd.DataFrame:
    """Table `effect_groups`: what each group of latents adds to each category's effect; all of them make it up.

    firing, steps, tokens: as for top_latents. group: (F,), each latent's.
    """
    names, of = np.unique(group.astype(str), return_inverse=True)
    onto = sparse.csr_array((steps, (np.arange(len(steps)), of)), shape=(len(steps), len(names)))
    size = np.where(tokens > 0, tokens, np.nan)[:, None] * (typical if typical > 0 else np.nan)
    parts = (firing @ onto) / size  # (C, G)
    row, column = np.nonzero(np.nan_to_num(parts))
    return pd.DataFrame(
        {
            "category": np.asarray(keys, dtype=object)[row],
            "grp": names[column],
            "contribution": parts[row, column],
        }
    )


def top_latents(
    keys: list[str], firing: np.ndarray, steps: np.ndarray, tokens: np.ndarray, typical: float, top: int
) -> pd.DataFrame:
    """Table `effect_latents`: each category's largest contributions; all of a category's make up its effect.

    firing: (C, F), CodeSums.firing; steps: (F,); tokens: (C,), each category's tokens, weights added up.
    """
    parts = []
    for c, key in enumerate(keys):
        if not tokens[c] > 0 or not typical > 0:
            continue
        share = firing[c] * steps / (tokens[c] * typical)
        best = np.argsort(-share, kind="stable")[:top]
        best = best[share[best] > 0]
        parts.append(
            pd.DataFrame(
                {"category": key, "latent": best, "rank": np.arange(len(best)), "contribution": share[best]}
            )
        )
    columns = ["category", "latent", "rank", "contribution"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
