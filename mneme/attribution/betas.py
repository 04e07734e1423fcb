"""The `betas` table: every target and probe, with intervals where they are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme.attribution.geometry import MODELS, Geometry
from mneme.attribution.scaling import TARGETS


def betas_frame(
    scaling: pd.DataFrame, geometry: Geometry, interval: tuple[np.ndarray, np.ndarray]
) -> pd.DataFrame:
    """The `betas` table: latent, probe, target, model, beta, ci_low, ci_high; only betas that are defined.

    interval: (2 models, F) ends; they are of the error target along the probe each model is judged with.
    """
    parts = []
    for target in TARGETS:
        for m, model in enumerate(MODELS):
            for q, probe in enumerate(MODELS):
                judged = (target == "error") & (geometry.contrast[m] == q)
                part = pd.DataFrame(
                    {
                        "latent": scaling["latent"],
                        "beta": scaling[f"beta_{target}_{model}_{probe}"],
                        "ci_low": np.where(judged, interval[0][m], np.nan),
                        "ci_high": np.where(judged, interval[1][m], np.nan),
                    }
                ).dropna(subset=["beta"])
                parts.append(part.assign(probe=probe, target=target, model=model))
    columns = ["latent", "probe", "target", "model", "beta", "ci_low", "ci_high"]
    return pd.concat(parts, ignore_index=True)[columns]
