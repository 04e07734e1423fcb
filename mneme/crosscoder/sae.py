"""A SAELens sparse autoencoder of the base model, read as a read-out dictionary (mneme/crosscoder/read_out.py).

f = relu((x - b_dec) W_enc + b_enc), x_hat = f W_dec + b_dec: W_enc (d, F), W_dec (F, d). Each model's stream is read
with it. What selects otherwise (a threshold a latent, k of each token) has no read-out dictionary that says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mneme._util.errors import CrosscoderError
from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.parts import Parts, part


def read_sae(tensors: dict[str, Tensor], settings: Mapping[str, Any], file: Path) -> Parts:
    """The read-out dictionary (variant base) that encodes as the autoencoder does. Raises CrosscoderError."""
    kind = str(settings.get("architecture", settings.get("architecture_type", "standard")))
    if kind not in ("standard", "standard_transcoder") or "threshold" in tensors or "k" in tensors:
        raise CrosscoderError(
            f"{file} is a sparse autoencoder that selects otherwise than by relu ({kind}): give one of the architecture"
            " standard, or a crosscoder"
        )
    scaling = settings.get("normalize_activations") or "none"
    if scaling != "none":
        raise CrosscoderError(
            f"{file} scales its inputs by {str(scaling)[:40]!r}: fold that into its weights, and give that file"
        )
    W_enc, b_dec = part(tensors, "W_enc", file), part(tensors, "b_dec", file)
    W_dec, b_enc = part(tensors, "W_dec", file), part(tensors, "b_enc", file)
    d, F = b_dec.numel(), b_enc.numel()
    if tuple(W_enc.shape) != (d, F) or tuple(W_dec.shape) != (F, d):
        raise CrosscoderError(
            f"{file}: W_enc {tuple(W_enc.shape)} and W_dec {tuple(W_dec.shape)} are not ({d}, {F}) and ({F}, {d}), as"
            " their biases say: transposed, or damaged"
        )
    if settings.get("apply_b_dec_to_input", True):
        b_enc = b_enc - (b_dec.double() @ W_enc.double()).to(b_enc.dtype)
    parts = {
        "W_enc": W_enc.expand(2, d, F) / 2,  # the halves of a model with itself are added
        "b_enc": b_enc,
        "W_dec": W_dec.expand(2, F, d),
        "b_dec": b_dec.expand(2, d),
        "threshold": torch.tensor(0.0),
        "mean": torch.zeros(2, d),
        "scale": torch.ones(2),
    }
    return Parts(CrosscoderConfig(n_latents=max(F, 1), variant="base", encoder_dtype="float32"), parts)
