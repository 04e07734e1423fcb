"""What the two decoders of each latent say before any token is read.

A latent j writes the direction d_j^b in the base model and d_j^t in the tuned one. Everything here is in raw
activation units: the normaliser's scale is folded into the decoders, so that a model with larger activations
does not look like one whose latents shrank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mneme._util.arrays import divide
from mneme.crosscoder.protocols import ModelEncoder, RawDecoder

if TYPE_CHECKING:
    from mneme.attribution.fused_sums import FusedSums

BASE, TUNED = 0, 1
MODELS = ("base", "tuned")


@dataclass(frozen=True)
class Geometry:
    """Decoders of F latents and the products of them that latent scaling needs."""

    decoder: Tensor
    """(2, F, d): d_j^m, raw units."""
    bias: Tensor
    """(2, d): the decoder bias, raw units."""
    dots: np.ndarray
    """(2 models m, 2 probes q, F) float64: d_j^m . d_j^q."""
    probe: np.ndarray
    """(F,) int: the main probe, the decoder with the larger norm (0 base, 1 tuned; ties go to tuned).

    Of a read-out dictionary that of the model it was trained on: both models' have one direction."""
    turned: np.ndarray
    """(F,) bool: both decoders are of size, and point in different directions."""

    @property
    def n_latents(self) -> int:
        return self.decoder.shape[1]

    @cached_property
    def fused(self) -> FusedSums:
        """The compiled sums over these decoders, which must lie in the processor's memory; made at first use."""
        from mneme.attribution.fused_sums import FusedSums

        return FusedSums(self.decoder.numpy(), self.bias.numpy())

    @property
    def norms(self) -> np.ndarray:
        """(2, F) float64: decoder l2 norms."""
        found: np.ndarray = np.sqrt(np.stack([self.dots[0, 0], self.dots[1, 1]]))
        return found

    @property
    def cosine(self) -> np.ndarray:
        """(F,): cos(d_j^b, d_j^t); NaN where a decoder is zero."""
        return divide(self.dots[0, 1], self.norms[0] * self.norms[1])

    @property
    def delta_norm(self) -> np.ndarray:
        """(F,): 0 base only, 0.5 shared, 1 tuned only; NaN where both decoders are zero.

        (1 + (n_t - n_b) / max(n_t, n_b)) / 2 of the norms n (Minder et al. 2025, eq. 5).
        """
        base, tuned = self.norms
        return 0.5 * (1 + divide(tuned - base, np.maximum(base, tuned)))

    @property
    def directions(self) -> Tensor:
        """(F, d) float32: unit main probes; zero where the decoder is zero."""
        probe = torch.from_numpy(self.probe).to(self.decoder.device)
        chosen = torch.where((probe == TUNED)[:, None], self.decoder[TUNED], self.decoder[BASE])
        return torch.nn.functional.normalize(chosen.float(), dim=-1)

    @property
    def contrast(self) -> tuple[np.ndarray, np.ndarray]:
        """The probe each model is judged with, (F,) each: the main one, or its own for a turned latent.

        A direction that turned by 60 degrees, as large as before, has beta_base = 0.5 on the tuned probe.
        That is a turn, not an amplification: such a latent's size is measured along each model's own decoder.
        """
        base = np.where(self.turned, BASE, self.probe)
        tuned = np.where(self.turned, TUNED, self.probe)
        return base, tuned


def make_geometry(
    crosscoder: RawDecoder, redirected_cosine: float = 0.7, redirected_norm: float = 0.3
) -> Geometry:
    """Decoder geometry of a crosscoder (anything with `raw_decoder()` and `raw_bias()`)."""
    decoder = crosscoder.raw_decoder().detach()
    bias = crosscoder.raw_bias().detach()
    if decoder.ndim != 3 or decoder.shape[0] != 2 or bias.shape != (2, decoder.shape[2]):
        raise ValueError(
            f"decoder {tuple(decoder.shape)} and bias {tuple(bias.shape)} are not (2, F, d), (2, d)"
        )
    dots = np.empty((2, 2, decoder.shape[1]))
    for m in (BASE, TUNED):
        for q in range(m + 1):
            dots[m, q] = dots[q, m] = _row_dots(decoder[m], decoder[q])
    norms = np.sqrt(np.stack([dots[0, 0], dots[1, 1]]))
    cosine = divide(dots[0, 1], norms[0] * norms[1])
    turned = (norms.min(0) >= redirected_norm * norms.max(0)) & (cosine < redirected_cosine)
    probe = (norms[1] >= norms[0]).astype(np.int64)
    if isinstance(crosscoder, ModelEncoder) and crosscoder.read_model is not None:
        probe[:] = crosscoder.read_model
    return Geometry(decoder, bias, dots, probe, turned)


def _row_dots(a: Tensor, b: Tensor) -> np.ndarray:
    """(F,) float64 products of the rows of a (F, d) and b (F, d), a block of rows (that a cache holds) at a time."""
    rows = 256 if a.device.type == "cpu" else 16384
    parts = [
        (a[i : i + rows].double() * b[i : i + rows].double()).sum(1).cpu().numpy()
        for i in range(0, len(a), rows)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)
