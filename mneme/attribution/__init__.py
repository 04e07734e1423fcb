"""Which latents were amplified, suppressed or left alone, and how sure that is.

    scaling     the least-squares weights beta          evidence    intervals and p-values over documents
    bootstrap   Poisson replicates over documents       verdicts    from evidence to a word
    firing      when each latent fires                  joint       groups of correlated latents
    nulls       pairs with no change                    stability   retrained dictionaries
    health      is the dictionary fit to be read        attribute   all of it in one pass over a cache

Importing the package is cheap: torch comes with first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mneme.attribution.attribute import Attribution, attribute
    from mneme.attribution.scaling import latent_scaling

__all__ = ["Attribution", "attribute", "latent_scaling"]

_HOMES = {"Attribution": "attribute", "attribute": "attribute", "latent_scaling": "scaling"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mneme.attribution' has no attribute {name!r}")
    # `attribute` is also the name of its module: set the function, or importing the module shadows it.
    value = getattr(import_module(f"mneme.attribution.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
