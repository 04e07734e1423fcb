"""The scale of a crosscoder from elsewhere whose files store none.

Training tools scale the models' activations before they train. Some then fold the factors into the weights that they
publish, some leave them out. Scaling folded weights once more gives another dictionary, so both readings are tried on
the activations at hand, and the one that explains more of them is taken.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from mneme.crosscoder.module import Crosscoder
from mneme.harvest.protocols import Source

SAMPLE = 8192
"""Tokens on which the two are compared, drawn from all."""


class ImportedScale(NamedTuple):
    """What was taken, and the share of the activations' variance that each reading explains (mean of the models)."""

    taken: Literal["fitted", "folded"]
    fitted: float
    folded: float
    forced: bool

    def sentence(self) -> str:
        """For people."""
        names = {
            "fitted": "with a scale fitted to these activations",
            "folded": "with the scale folded into its weights",
        }
        other = "folded" if self.taken == "fitted" else "fitted"
        shares = {"fitted": self.fitted, "folded": self.folded}
        text = (
            f"its files store no scale: read {names[self.taken]}, it explains {shares[self.taken]:.1%} of the variance,"
            f" {names[other]} {shares[other]:.1%}"
        )
        if self.forced:
            text += f" (crosscoder.imported_scale = {self.taken})"
        if max(shares.values()) < 0.1:
            text += "; neither explains these activations: are the layer and the models those that it was made for?"
        return text


def fit_imported(
    crosscoder: Crosscoder, activations: Source, rule: Literal["auto", "fitted", "folded"] = "auto"
) -> ImportedScale:
    """Give a crosscoder without a normaliser one, in place: the rule's, else that which explains more of a sample."""
    crosscoder.with_normaliser(activations)
    fitted = crosscoder.mean.clone(), crosscoder.scale.clone()
    folded = torch.zeros_like(fitted[0]), torch.ones_like(fitted[1])
    sample = next(iter(activations.batches(SAMPLE, shuffle=True)))
    shares = {
        name: _explained(crosscoder, sample, *values)
        for name, values in (("fitted", fitted), ("folded", folded))
    }
    taken: Literal["fitted", "folded"] = "folded" if shares["folded"] > shares["fitted"] else "fitted"
    if rule != "auto":
        taken = rule
    _set(crosscoder, *(folded if taken == "folded" else fitted))
    return ImportedScale(taken, shares["fitted"], shares["folded"], rule != "auto")


def _explained(crosscoder: Crosscoder, x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> float:
    """1 - E||x - x_hat||^2 / E||x - mean||^2, mean of the two models."""
    _set(crosscoder, mean, scale)
    x = x.to(crosscoder.mean.device, torch.float32)
    error = (x - crosscoder(x)).double().square().sum(dim=(0, 2))
    whole = (x - x.mean(0)).double().square().sum(dim=(0, 2))
    return float((1 - error / whole).mean())


def _set(crosscoder: Crosscoder, mean: torch.Tensor, scale: torch.Tensor) -> None:
    crosscoder.mean.copy_(mean)
    crosscoder.scale.copy_(scale)
