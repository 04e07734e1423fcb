"""Crosscoders in the layouts that others publish.

- dictionary_learning and the diffing-toolkit: encoder.weight (2, d, F) and so on; their BatchTopK crosscoders select by
  threshold as ours do. One without a threshold whose `k` is known selects the k of each token.
- ckkissane's crosscoder-model-diff, and crosscoder_vis: W_enc (2, d, F), W_dec (F, 2, d), all that fires is kept; the
  factors its inputs were scaled by are not stored (imported.py finds whether they were folded into the weights).

In all of them f = relu(sum_m x_m W_enc^m + b_enc) on the normalised x: no decoder bias is subtracted first.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mneme._util.errors import CrosscoderError
from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.parts import Parts, part
from mneme.crosscoder.sae import read_sae


def read_layout(tensors: dict[str, Tensor], settings: Mapping[str, Any], file: Path) -> Parts:
    """The crosscoder of another tool's tensors and settings. Raises CrosscoderError for no known layout."""
    if "encoder.weight" in tensors:
        return _dictionary_learning(tensors, settings, file)
    if "W_enc" in tensors and tensors["W_enc"].ndim == 2:
        return read_sae(tensors, settings, file)
    if "W_enc" in tensors:
        return _relu_crosscoder(tensors, settings, file)
    names = ", ".join(sorted(tensors)[:4]) or "none"
    raise CrosscoderError(
        f"{file} is in no layout that mneme reads (its tensors: {names}): it needs encoder.weight or W_enc"
    )


def check_parts(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Weights of the right shapes, all of them finite numbers. Raises CrosscoderError that names the tensor.

    Which of two axes is the width is told by the biases: b_enc (F,), b_dec (2, d).
    """
    b_enc, b_dec = part(tensors, "b_enc", file), part(tensors, "b_dec", file)
    if b_enc.ndim != 1 or b_dec.ndim != 2 or b_dec.shape[0] != 2:
        raise CrosscoderError(
            f"{file} is no crosscoder of two models: its biases have shapes {tuple(b_enc.shape)} and"
            f" {tuple(b_dec.shape)}, not (F,) and (2, d)"
        )
    F, d = len(b_enc), b_dec.shape[1]
    for name, shape in (("W_enc", (2, d, F)), ("W_dec", (2, F, d))):
        found = tuple(part(tensors, name, file).shape)
        if found == shape:
            continue
        if sorted(found) == sorted(shape):
            raise CrosscoderError(
                f"{file}: {name} is transposed, {found} where (models, in, out) is {shape}: save it with its axes in"
                " the layout's order"
            )
        raise CrosscoderError(
            f"{file} is damaged: {name} has shape {found}, not {shape}; train or download the crosscoder again"
        )
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        if not bool(torch.isfinite(tensors[name]).all()):
            raise CrosscoderError(
                f"{file} holds NaN or infinity in {name}: train or download the crosscoder again"
            )
    _check_normaliser(tensors, file)


def _check_normaliser(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Mean and scale are both set, or both NaN: not stored. A threshold may be NaN, where none is needed."""
    mean, scale = part(tensors, "mean", file), part(tensors, "scale", file)
    set_ = bool(torch.isfinite(mean).all()) and bool(torch.isfinite(scale).all()) and bool((scale > 0).all())
    unset = bool(mean.isnan().all()) and bool(scale.isnan().all())
    if not (set_ or unset) or bool(part(tensors, "threshold", file).isinf().any()):
        raise CrosscoderError(
            f"{file} holds NaN, infinity or a scale of zero in its normaliser or threshold: train or download the"
            " crosscoder again"
        )


def known_k(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> int | None:
    """Active latents per token, where the files say so."""
    if "k" in tensors and tensors["k"].numel() == 1:
        return max(int(tensors["k"]), 1)
    trainer = settings.get("trainer")
    for table in (settings, trainer if isinstance(trainer, Mapping) else {}):
        for key in ("k", "top_k"):
            value = table.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31:
                return value
    return None


def _dictionary_learning(tensors: dict[str, Tensor], settings: Mapping[str, Any], file: Path) -> Parts:
    """CrossCoder and BatchTopKCrossCoder; CodeNormalization other than CROSSCODER (1) selects differently."""
    W_enc = part(tensors, "encoder.weight", file)
    if W_enc.ndim != 3 or W_enc.shape[0] != 2:
        raise CrosscoderError(
            f"{file} is a dictionary of {W_enc.shape[0] if W_enc.ndim == 3 else 1} models: mneme compares two"
        )
    threshold, k = tensors.get("threshold"), known_k(tensors, settings)
    if (threshold is not None or k is not None) and int(
        tensors.get("code_normalization_id", torch.tensor(1))
    ) != 1:
        raise CrosscoderError(
            f"{file} selects latents by another norm than the sum of its decoders' norms: use one trained"
            " with code_normalization CROSSCODER"
        )
    if threshold is not None and threshold.numel() == 1 and float(threshold) >= 0:
        variant = "batchtopk"
    elif threshold is not None or k is not None:
        # Never set in training, or not stored: the k of each token are the nearest rule that needs no batch.
        threshold, variant = None, "topk"
    else:
        variant = "l1"
    if variant == "topk" and k is None:
        raise CrosscoderError(
            f"{file} has a threshold that was never set, and no k: give its config.json with k"
        )
    mean, scale = _their_normaliser(tensors, W_enc.shape[1], file)
    parts = {
        "W_enc": W_enc,
        "b_enc": part(tensors, "encoder.bias", file),
        "W_dec": part(tensors, "decoder.weight", file),
        "b_dec": part(tensors, "decoder.bias", file),
        "threshold": torch.tensor(math.nan) if threshold is None else threshold.reshape(()),
        "mean": mean,
        "scale": scale,
    }
    return Parts(_config(parts, variant, k), parts)


def _their_normaliser(tensors: dict[str, Tensor], d: int, file: Path) -> tuple[Tensor, Tensor]:
    """Theirs is (x - mean) g with one g a model: our scale is 1 / g. Stored as NaN: inputs are taken raw."""
    if "activation_mean" not in tensors:
        return torch.full((2, d), math.nan), torch.full((2,), math.nan)
    mean, std = tensors["activation_mean"], part(tensors, "activation_std", file)
    if bool(mean.isnan().any()) or bool(std.isnan().any()):
        return torch.zeros(2, d), torch.ones(2)
    gain = tensors.get("activation_global_scale")
    if gain is None:
        gain = tensors.get("target_rms", torch.tensor(1.0)) / std.square().sum(-1).sqrt()
    elif bool((gain == 1).all()):
        raise CrosscoderError(
            f"{file} scales every dimension on its own, mneme a model as a whole: use one trained with"
            " keep_relative_variance"
        )
    return mean, 1 / gain.reshape(2)


def _relu_crosscoder(tensors: dict[str, Tensor], settings: Mapping[str, Any], file: Path) -> Parts:
    """W_enc (2, d, F), W_dec (F, 2, d): all that fires is kept, or the k of each token where the files give a k."""
    W_enc, W_dec = part(tensors, "W_enc", file), part(tensors, "W_dec", file)
    if W_enc.ndim != 3 or W_enc.shape[0] != 2 or W_dec.ndim != 3:
        raise CrosscoderError(f"{file} has encoder weights of shape {tuple(W_enc.shape)}, not (2, d, F)")
    k = known_k(tensors, settings)
    # Theirs has the models in the middle; as ours, it would be transposed.
    decoder = W_dec.transpose(0, 1) if W_dec.shape[1] == 2 else W_dec
    d = part(tensors, "b_dec", file).shape[-1]
    parts = {
        "W_enc": W_enc,
        "b_enc": part(tensors, "b_enc", file),
        "W_dec": decoder,
        "b_dec": part(tensors, "b_dec", file),
        "threshold": torch.tensor(math.nan),
        "mean": torch.full((2, d), math.nan),
        "scale": torch.full((2,), math.nan),
    }
    # their inputs are scaled to a mean norm of sqrt(d), not centred
    return Parts(_config(parts, "l1" if k is None else "topk", k), parts, centres_input=False)


def _config(parts: Mapping[str, Tensor], variant: Any, k: int | None) -> CrosscoderConfig:
    plain = CrosscoderConfig(
        n_latents=max(parts["b_enc"].numel(), 1), variant=variant, encoder_dtype="float32"
    )
    return plain if k is None else dataclasses.replace(plain, k=k)
