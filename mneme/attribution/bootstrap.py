"""A Poisson bootstrap over documents, streamed: the weight of a document in a replicate is a hash of both.

Each document enters replicate r with a Poisson(1) weight (Hanley & MacGibbon 2006; Chamandy et al. 2012),
so documents can be added one at a time, in any order, on any machine, and two passes' replicates just add up.
What is kept is F x replicates x 2 sums in float32 (131,072 latents, 200 replicates: 210 MB) however many
documents there are.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from mneme._util import distributed
from mneme.attribution.evidence import LOG_LIMIT, DocumentShares
from mneme.stats.bootstrap import percentile_interval, poisson_weights


class BootstrapSums:
    """S^b and S^t of F latents in each of R replicates."""

    def __init__(self, n_latents: int, replicates: int, seed: int = 0) -> None:
        self.replicates, self.seed = replicates, seed
        self.sums = np.zeros((2, n_latents, replicates), dtype=np.float32)

    def update(self, rows: DocumentShares) -> None:
        """Add whole documents."""
        if not len(rows.latent):
            return
        latents, i = np.unique(rows.latent, return_inverse=True)
        documents, k = np.unique(rows.document, return_inverse=True)
        weights = poisson_weights(documents, self.replicates, self.seed)
        for m in (0, 1):
            shares = sparse.csr_array(
                (rows.shares[:, m].astype(np.float32), (i, k)), shape=(len(latents), len(documents))
            )
            self.sums[m, latents] += shares @ weights

    def merge(self, other: BootstrapSums) -> None:
        """Add the replicates of other documents."""
        self.sums += other.sums

    def over_ranks(self) -> None:
        """Add up what every rank's documents gave. Collective."""
        distributed.add_up(self.sums)

    def log_ratios(self) -> np.ndarray:
        """(F, R): ln(|S^t| / |S^b|) of each replicate, within +-LOG_LIMIT; NaN where a replicate is empty."""
        base, tuned = np.abs(self.sums.astype(np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.clip(np.log(tuned) - np.log(base), -LOG_LIMIT, LOG_LIMIT)
            return found

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """(F,) percentile interval of log_ratio; NaN where half or more of the replicates are empty."""
        return percentile_interval(self.log_ratios(), level)

    def margin_p_values(self, margin: float, reference: float = 0.0) -> np.ndarray:
        """(F,): twice the smaller share of replicates that do not clear the margin, (k + 1) / (R + 1)."""
        ratios = self.log_ratios() - reference
        n = np.isfinite(ratios).sum(1)
        up = ((ratios <= margin).sum(1) + 1) / (n + 1)
        down = ((ratios >= -margin).sum(1) + 1) / (n + 1)
        p = np.minimum(1.0, 2 * np.minimum(up, down))
        return np.where(n > self.replicates / 2, p, np.nan)
