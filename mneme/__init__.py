"""mneme: what else did fine-tuning change?

The stable Python interface is what `__all__` names. Importing the package is cheap: torch
comes with first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports
from mneme._util.versions import __version__

if TYPE_CHECKING:
    from mneme.attribution import latent_scaling
    from mneme.crosscoder import Crosscoder, CrosscoderConfig, export_crosscoder, train_crosscoder
    from mneme.models.memory import pair
    from mneme.run.api import diff
    from mneme.store.run import Run, open_run


__all__ = [
    "Crosscoder",
    "CrosscoderConfig",
    "Run",
    "__version__",
    "diff",
    "export_crosscoder",
    "latent_scaling",
    "open_run",
    "pair",
    "train_crosscoder",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Crosscoder": "crosscoder",
        "CrosscoderConfig": "crosscoder",
        "Run": "store.run",
        "diff": "run.api",
        "export_crosscoder": "crosscoder",
        "latent_scaling": "attribution",
        "open_run": "store.run",
        "pair": "models.memory",
        "train_crosscoder": "crosscoder",
    },
)
