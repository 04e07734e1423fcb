"""A run's findings as changes of the stream: what is patched of each, and the difference's own principal directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme.causal.finding_patches import FindingChange
from mneme.causal.patches import latents_like
from mneme.store.queries import findings as queries

if TYPE_CHECKING:
    from mneme.harvest.protocols import Source
    from mneme.run.context import RunContext
    from mneme.store.run import Run

_BATCH = 4096


def changes_of_findings(
    context: RunContext, run: Run, latents: pd.DataFrame, changed: np.ndarray, limit: int
) -> list[FindingChange]:
    """The first `limit` findings. latents: the run's table, by number; changed: numbers."""
    from mneme.crosscoder import CodeCache
    from mneme.effects.explained import directions_of
    from mneme.findings.sums import co_firing, spectrum_of

    homes, ranks = queries.homes(run, limit), queries.dimensions(run)
    if not homes:
        return []
    decoder = context.crosscoder.raw_decoder().detach().cpu()
    found = []
    for finding, members in homes.items():
        mine = directions_of(latents, np.array(members), decoder)
        main = spectrum_of(co_firing(CodeCache(context.folder / "codes"), mine.latent), mine.vector)[1][0]
        like = latents_like(latents, mine.latent, changed)
        found.append(FindingChange(finding, mine.latent, mine.vector, ranks[finding], main, like))
    return found


def principal_directions(cache: Source, rank: int) -> np.ndarray:
    """(rank, d) leading principal directions of x_tuned - x_base over all tokens, about 0; unit, the largest first."""
    products = np.zeros((cache.width, cache.width))
    for x in cache.batches(_BATCH):
        difference = (x[:, 1].double() - x[:, 0].double()).numpy()
        products += difference.T @ difference
    _, axes = np.linalg.eigh(products)
    return np.ascontiguousarray(axes[:, ::-1][:, :rank].T)
