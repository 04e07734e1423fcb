"""What patching latents did to the predictions."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mneme.store.run import Run


def of_latent(run: Run, latent: int) -> pd.DataFrame:
    """Rows of `causal` of one latent: undo before do, itself before what it is held against."""
    return run.sql(f"SELECT * FROM causal WHERE latent = ? {_ORDER}", [latent])


def together(run: Run) -> pd.DataFrame:
    """Rows of `causal` of all changed latents together, in the same order."""
    return run.sql(f"SELECT * FROM causal WHERE latent IS NULL {_ORDER}")


def every_latent(run: Run) -> pd.DataFrame:
    """The rows of each latent's own patches: the largest share undone first."""
    return run.sql(
        "SELECT * FROM causal WHERE latent IS NOT NULL AND source = 'latent'"
        " ORDER BY patch DESC, kl_share DESC NULLS LAST, latent"
    )


def ablations(run: Run, latent: int) -> pd.DataFrame:
    """Rows of `causal_ablations` of one latent, the base first."""
    return run.sql("SELECT * FROM causal_ablations WHERE latent = ? ORDER BY model", [latent])


def top_contexts(run: Run, latent: int, n: int) -> list[dict[str, Any]]:
    """Its n strongest contexts: document, position, start, activations."""
    found = run.rows(
        "SELECT c FROM (SELECT document, position, start, activations, rank FROM contexts"
        " WHERE latent = ? AND quantile = 0 ORDER BY rank, document LIMIT ?) c ORDER BY c.rank, c.document",
        [latent, n],
    )
    return [row for (row,) in found]


def latents_with_contexts(run: Run) -> list[int]:
    """Latents that have top contexts."""
    return [latent for (latent,) in run.rows("SELECT DISTINCT latent FROM contexts WHERE quantile = 0")]


_ORDER = (
    "ORDER BY patch DESC, list_position(['latent', 'latents', 'other latents', 'random latents',"
    " 'random direction', 'dictionary', 'whole'], source)"
)
