"""The check that the layer holds the change: what the layer profile says of the one that was read."""

from __future__ import annotations

import pandas as pd

from mneme.attribution.health_row import health_row
from mneme.harvest.cache import ActivationCache
from mneme.harvest.layer_choice import ENOUGH, restored_at


def layer_health(cache: ActivationCache) -> pd.DataFrame | None:
    """A health row; None where no profile says anything of the layer."""
    profile = cache.layer_profile()
    share = float("nan") if profile is None else restored_at(profile, cache.layer)
    if share != share:
        return None
    row = health_row(
        "layer_restored",
        "Difference of the predictions that the layer's stream holds",
        share,
        "share of KL on the layer profile's texts",
        "part of the change comes after this layer, and no latent can show it: the page Evidence shows which layer"
        " holds more",
        warn=ENOUGH,
        low_is_bad=True,
    )
    return pd.DataFrame([row])
