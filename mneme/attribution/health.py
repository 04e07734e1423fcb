"""The health gate: is this dictionary fit to be read, and what to do where it is not.

Rows have the columns of the `health` table: metric, title, value, unit, threshold, status, advice. Status is ok, warn
or fail against the thresholds written here, or info where a number has no threshold. A value there was nothing to
measure on is NaN and info; any other NaN is a failed check. The thresholds are ours, except those marked as the MNEME
paper's (dead latents above 15%, label overlap below 40%: arXiv 2507.21084).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mneme.attribution.geometry import MODELS
from mneme.attribution.half_health import half_rows
from mneme.attribution.health_row import health_row
from mneme.attribution.held_out_health import held_out_rows
from mneme.attribution.stream import Attribution
from mneme.crosscoder.codes import CodeCache
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.protocols import Activations


def attribution_health(
    found: Attribution,
    cache: Activations,
    k: int | None = None,
    crosscoder: Crosscoder | None = None,
    imported: bool = False,
    codes: CodeCache | None = None,
) -> pd.DataFrame:
    """Rows that the attribution pass measures.

    cache: the ActivationCache it read (for tokens left out; members it lacks give no row). codes: the cache's. k:
    active latents per token in training, to set L0 by threshold against. crosscoder: the one it was of, for what
    held-out text and the models' difference say of it; without it there are no such rows. imported: trained elsewhere.
    """
    rows = [*_dictionary_rows(found, k), *_token_rows(cache), *_verdict_rows(found)]
    if crosscoder is not None:
        rows += held_out_rows(found, crosscoder, cache, imported, codes)
    return pd.DataFrame(rows)


def _live(found: Attribution) -> np.ndarray:
    """(F,) bool: latents that fire."""
    return ~found.latents["dead"].to_numpy(dtype=bool)


def _dictionary_rows(found: Attribution, k: int | None) -> list[dict[str, Any]]:
    """Whether the dictionary fits the activations, and fires as it did in training."""
    live, n = _live(found), max(found.firing.n_tokens, 1)
    l0 = found.firing.n_active.sum() / n
    in_training = (
        []
        if k is None
        else [
            health_row("l0_topk", "Active latents per token, in training", k, "latents", ""),
            health_row(
                "l0_ratio",
                "L0 by threshold over L0 in training, |ln|",
                _abs_log(l0 / k),
                "nats",
                "the threshold does not fit this text: train longer, or read text like that of training",
                warn=0.25,
                fail=0.7,
            ),
        ]
    )
    return [
        *(
            health_row(
                f"explained_variance_{model}",
                f"Explained variance, {model}",
                found.fit.explained_variance[m],
                "share",
                "train on more tokens, or with more latents or a larger k",
                warn=0.6,
                fail=0.3,
                low_is_bad=True,
            )
            for m, model in enumerate(MODELS)
        ),
        health_row(
            "dead_share",
            "Dead latents",
            1 - live.mean() if len(live) else None,
            "share of latents",
            "train with fewer latents (crosscoder.n_latents) or on more text",
            warn=0.10,
            fail=0.15,
        ),
        health_row("l0_threshold", "Active latents per token, by threshold", l0, "latents", ""),
        *in_training,
        health_row(
            "dense_share",
            "Dense latents",
            (found.latents["dense"] & live).sum() / max(int(live.sum()), 1),
            "share of live latents",
            "lower k or train longer: latents that always fire explain nothing",
            warn=0.02,
            fail=0.1,
        ),
        health_row(
            "normaliser",
            "Normalised power of a dimension, worst |ln|",
            max(_abs_log(power) for power in found.fit.normalised_power),
            "nats (0 fits)",
            "the normaliser is of other activations: train on this pair, or import the scale factors too",
            warn=0.2,
            fail=0.7,
        ),
        health_row(
            "silent_tokens",
            "Tokens on which no latent fires",
            found.firing.n_silent_tokens / n,
            "share of tokens",
            "the threshold is too high for this text: train longer or on this text",
            warn=0.01,
            fail=0.1,
        ),
    ]


def _verdict_rows(found: Attribution) -> list[dict[str, Any]]:
    """What the verdicts rest on."""
    latents, live = found.latents, _live(found)
    n_live = max(int(live.sum()), 1)
    return [
        *half_rows(found.half_betas, found.half_allowed, found.margin, found.level),
        health_row(
            "correlated_share",
            "Latents in a correlated group",
            (latents["correlated_group"].notna() & live).sum() / n_live,
            "share of live latents",
            "many latents share the credit: read the joint betas, train with fewer latents",
            warn=0.5,
        ),
        health_row(
            "uncertain_share",
            "Latents without a verdict",
            ((latents["verdict"] == "uncertain") & live).sum() / n_live,
            "share of live latents",
            "read more text: intervals narrow with the number of documents",
            warn=0.5,
        ),
        health_row(
            "common_scale",
            "Change that most latents share (tuned over base)",
            float(np.exp(found.reference)),
            "ratio",
            "",
        ),
        health_row("margin", "Equivalence margin of the verdicts", found.margin, "nats", ""),
    ]


def _token_rows(cache: Activations) -> list[dict[str, Any]]:
    """Tokens left out of the harvest; nothing for a cache that does not say."""
    rows = []
    if hasattr(cache, "n_skipped_sinks"):
        share = cache.n_skipped_sinks / max(cache.n + cache.n_skipped_sinks, 1)
        rows.append(
            health_row(
                "sink_share",
                "Attention-sink tokens left out",
                share,
                "share of tokens",
                "many tokens have outlying norms: check harvest.sink_ratio and the layer",
                warn=0.02,
                fail=0.2,
            )
        )
    if hasattr(cache, "n_skipped_bos"):
        rows.append(
            health_row("bos_tokens", "BOS and padding tokens left out", cache.n_skipped_bos, "tokens", "")
        )
    if hasattr(cache, "n_documents"):
        empty = cache.n_documents - len(np.unique(cache.document))
        rows.append(
            health_row(
                "empty_documents",
                "Documents of which no token was kept",
                empty,
                "documents",
                "documents are shorter than two tokens: leave them out of the corpus",
                warn=0,
            )
        )
    return rows


def _abs_log(ratio: float) -> float:
    """|ln ratio|; infinite for 0."""
    return float(abs(np.log(ratio))) if ratio > 0 else float("inf")
