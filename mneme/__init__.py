"""mneme: what else did fine-tuning change?

The stable Python interface is what `__all__` names. Importing the package is cheap: torch
comes with first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mneme.api import diff
    from mneme.attribution import latent_scaling
    from mneme.crosscoder import Crosscoder, CrosscoderConfig, train_crosscoder
    from mneme.store.run import Run, open_run

__version__ = "0.1.0"
__all__ = [
    "Crosscoder",
    "CrosscoderConfig",
    "Run",
    "__version__",
    "diff",
    "latent_scaling",
    "open_run",
    "train_crosscoder",
]

_HOMES = {
    "Crosscoder": "mneme.crosscoder",
    "CrosscoderConfig": "mneme.crosscoder",
    "Run": "mneme.store.run",
    "diff": "mneme.api",
    "latent_scaling": "mneme.attribution",
    "open_run": "mneme.store.run",
    "train_crosscoder": "mneme.crosscoder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mneme' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
