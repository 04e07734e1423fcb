"""Both models, one pass, stop at the layer."""

from mneme.harvest.cache import ActivationCache
from mneme.harvest.config import HarvestConfig
from mneme.harvest.harvest import estimated_bytes, harvest, harvest_fingerprint, resolve_layer

__all__ = [
    "ActivationCache",
    "HarvestConfig",
    "estimated_bytes",
    "harvest",
    "harvest_fingerprint",
    "resolve_layer",
]
