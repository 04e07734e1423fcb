"""What latents mean: contexts, logit lens, neighbours, map, labels and their held-out scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.interpret.interpretation import Interpretation, interpret

__all__ = ["Interpretation", "interpret"]

__getattr__ = lazy_exports(__name__, {"Interpretation": "interpretation", "interpret": "interpretation"})
