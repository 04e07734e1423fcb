"""What the interpretation found, for the stage that makes labels of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from mneme.store.run import Run


def found_contexts(run: Run) -> pa.Table:
    """All contexts, in the order they were found in: latent by latent, the top ones first, then deciles 10 .. 1."""
    return run.arrow(
        "SELECT latent, rank, quantile, split, document, position, start, activations FROM contexts"
        " ORDER BY latent, quantile = 0 DESC, quantile DESC, rank"
    )


def training_contexts(run: Run, latents: Sequence[int]) -> pd.DataFrame:
    """Contexts that an explainer may see of some latents, in the order they were found in."""
    return run.sql(
        "SELECT latent, quantile, split, position, start, tokens, activations FROM contexts"
        " WHERE split = 'train' AND list_contains(?, latent)"
        " ORDER BY latent, quantile = 0 DESC, quantile DESC, rank",
        [list(latents)],
    )


def promoted_tokens(run: Run, latents: Sequence[int] | None = None) -> pd.DataFrame:
    """latent, model (base, tuned, difference), token: the top of each logit lens, the most promoted first."""
    return run.sql(
        "SELECT latent, model, token FROM logit_lens"
        " WHERE direction = 'top' AND ($1 IS NULL OR list_contains($1::INTEGER[], latent))"
        " ORDER BY latent, model, rank",
        [None if latents is None else list(latents)],
    )


def near_latents(run: Run) -> pd.DataFrame:
    """latent, kind (decoder, firing), rank, neighbour."""
    return run.sql("SELECT latent, kind, rank, neighbour FROM neighbours ORDER BY latent, kind, rank")


def verdicts(run: Run) -> pd.DataFrame:
    """latent, verdict, severity."""
    return run.sql("SELECT latent, verdict, severity FROM latents ORDER BY latent")
