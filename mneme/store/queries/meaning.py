"""What the interpretation found, for the stage that makes labels of it."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from mneme.store.run import Run


def found_contexts(run: Run) -> pa.Table:
    """All contexts, in the order they were found in: latent by latent, the top ones first, then deciles 10 .. 1."""
    return run.arrow(
        "SELECT latent, rank, quantile, split, document, position, start, activations FROM contexts"
        " ORDER BY latent, quantile = 0 DESC, quantile DESC, rank"
    )


def promoted_tokens(run: Run) -> pd.DataFrame:
    """latent, model (base, tuned, difference), token: the top of each logit lens, the most promoted first."""
    return run.sql(
        "SELECT latent, model, token FROM logit_lens WHERE direction = 'top' ORDER BY latent, model, rank"
    )


def near_latents(run: Run) -> pd.DataFrame:
    """latent, kind (decoder, firing), rank, neighbour."""
    return run.sql("SELECT latent, kind, rank, neighbour FROM neighbours ORDER BY latent, kind, rank")
