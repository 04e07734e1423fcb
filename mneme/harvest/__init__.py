"""Both models, one pass, stop at the layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.harvest.cache import ActivationCache
    from mneme.harvest.config import HarvestConfig
    from mneme.harvest.extract import harvest, harvest_fingerprint
    from mneme.harvest.layer import check_layer
    from mneme.harvest.limits import estimated_bytes

__all__ = [
    "ActivationCache",
    "HarvestConfig",
    "check_layer",
    "estimated_bytes",
    "harvest",
    "harvest_fingerprint",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ActivationCache": "cache",
        "HarvestConfig": "config",
        "check_layer": "layer",
        "estimated_bytes": "limits",
        "harvest": "extract",
        "harvest_fingerprint": "extract",
    },
)
