"""The `betas` table: every target, model and probe, with its interval."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mneme.attribution.geometry import MODELS
from mneme.attribution.scaling import TARGETS


def betas_frame(
    scaling: pd.DataFrame, intervals: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """The `betas` table: latent, probe, target, model, beta, ci_low, ci_high; only betas that are defined.

    intervals: target -> ends (2 models, 2 probes, F), `BetaMoments.intervals`.
    """
    parts = []
    for target in TARGETS:
        low, high = intervals[target]
        for m, model in enumerate(MODELS):
            for q, probe in enumerate(MODELS):
                part = pd.DataFrame(
                    {
                        "latent": scaling["latent"],
                        "beta": scaling[f"beta_{target}_{model}_{probe}"],
                        "ci_low": low[m, q],
                        "ci_high": high[m, q],
                    }
                ).dropna(subset=["beta"])
                parts.append(part.assign(probe=probe, target=target, model=model))
    columns = ["latent", "probe", "target", "model", "beta", "ci_low", "ci_high"]
    return pd.concat(parts, ignore_index=True)[columns]
