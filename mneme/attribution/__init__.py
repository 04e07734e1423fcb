"""Which latents were amplified, suppressed or left alone, and how sure that is.

    scaling     the least-squares weights beta          evidence    intervals and p-values over documents
    bootstrap   Poisson replicates over documents       verdicts    from evidence to a word
    firing      when each latent fires                  joint       groups of correlated latents
    nulls       pairs with no change                    stability   retrained dictionaries
    halves      betas of either half of the documents   health      is the dictionary fit to be read
    stream      all of it in one pass over a cache

Importing the package is cheap: torch comes with first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.attribution.scaling import latent_scaling
    from mneme.attribution.stream import Attribution, attribute

__all__ = ["Attribution", "attribute", "latent_scaling"]

__getattr__ = lazy_exports(
    __name__, {"Attribution": "stream", "attribute": "stream", "latent_scaling": "scaling"}
)
