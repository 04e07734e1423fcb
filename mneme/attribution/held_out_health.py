"""Health rows on what held-out text says of dictionary and evidence, and on the models' difference as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from mneme._util.vocabulary import SPARSE_ENOUGH
from mneme.attribution.geometry import MODELS
from mneme.attribution.health_row import health_row, measured
from mneme.attribution.reconstruction import reconstructions
from mneme.attribution.stream import Attribution
from mneme.attribution.verdicts import common_log_ratio
from mneme.crosscoder.codes import CodeCache
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.held_out import document_hashes
from mneme.harvest.protocols import Activations


def held_out_rows(
    found: Attribution,
    crosscoder: Crosscoder,
    cache: Activations,
    imported: bool,
    codes: CodeCache | None = None,
) -> list[dict[str, Any]]:
    """imported: the crosscoder was trained elsewhere; where what it read is not known, that is taken for other text.
    codes: the cache's."""
    everything = np.bincount(np.asarray(cache.document, dtype=np.int64)) > 0
    counts = found.counts if found.counts is not None else everything
    unread = found.counts is not None or _other_text(crosscoder, cache, imported)
    rows = [
        health_row(
            "held_out_documents",
            "Documents that betas rest on and training did not read",
            float((counts & everything).sum()) if unread else 0.0,
            "documents",
            "betas are fitted on text that training read, and say less of other text: read more documents, with"
            " crosscoder.held_out_share above 0",
            warn=0.5,
            low_is_bad=True,
        )
    ]
    here, there = reconstructions(crosscoder, cache, [counts, everything & ~counts], codes)
    if found.counts is not None and found.training is not None:
        rows += [
            *(
                health_row(
                    f"{where}_explained_variance_{model}",
                    f"Explained variance, {model}, {text}",
                    measured(part.explained_variance[m]),
                    "share",
                    "",
                )
                for where, text, part in (
                    ("held_out", "documents held out", here),
                    ("training", "documents of the training", there),
                )
                for m, model in enumerate(MODELS)
            ),
            health_row(
                "held_out_log_ratio",
                "Log ratio, held out less training: median of the size",
                _log_ratio_gap(found),
                "nats",
                "verdicts hold for the text of the training more than for other text: read more text",
                warn=found.margin,
            ),
        ]
    return [*rows, *_difference_rows(here.difference_rank, here.difference_explained)]


def _difference_rows(rank: float, explained: float) -> list[dict[str, Any]]:
    return [
        health_row(
            "difference_rank",
            "Effective rank of the models' difference",
            measured(rank),
            "directions",
            "",
        ),
        health_row(
            "difference_explained",
            "Share of the models' difference that the dictionary explains",
            measured(explained),
            "share",
            "most of the change is not in the latents: the verdict rests on activations and predictions; train longer,"
            " on more text or with more latents, or read another layer",
            warn=SPARSE_ENOUGH,
            low_is_bad=True,
        ),
    ]


def _other_text(crosscoder: Crosscoder, cache: Activations, imported: bool) -> bool:
    """Whether training read none of the cache's documents, as far as is known."""
    if crosscoder.training_documents is None:
        return imported
    return not np.isin(document_hashes(cache), crosscoder.training_documents.cpu().numpy()).any()


def _log_ratio_gap(found: Attribution) -> float | None:
    """Median |difference| of held-out and training log ratios, of latents in two documents or more of either."""
    training = found.training
    if training is None:
        return None
    both = (found.latents["n_documents"].to_numpy() > 1) & (training.n > 1)
    ratio = training.log_ratio()
    gap = (found.latents["log_ratio"].to_numpy() - found.reference) - (
        ratio - _reference(found, ratio, training.n)
    )
    gap = gap[both & np.isfinite(gap)]
    return float(np.median(np.abs(gap))) if len(gap) else None


def _reference(found: Attribution, ratio: np.ndarray, n: np.ndarray) -> float:
    return common_log_ratio(ratio[n > 1]) if found.reference != 0 else 0.0
