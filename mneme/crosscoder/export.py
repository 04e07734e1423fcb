"""A crosscoder written in the layouts that other tools read.

dictionary_learning (also the diffing-toolkit): model.safetensors and config.json, the normaliser beside the weights.
ckkissane's crosscoder-model-diff: cc_weights.pt and cfg.json, the normaliser folded into the weights; it keeps all that
fires, so that only the variant l1 can be said in it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mneme._util.errors import CrosscoderError
from mneme._util.files import replacing, write_text
from mneme.crosscoder.formats import write_tensors
from mneme.crosscoder.module import Crosscoder

Layout = Literal["dictionary_learning", "ckkissane"]


def export_crosscoder(
    crosscoder: Crosscoder,
    folder: str | Path,
    layout: Layout = "dictionary_learning",
    *,
    layer: int | None = None,
) -> None:
    """Write the crosscoder's files in another tool's layout. `layer`: the one whose output it reads, for the settings.

    Raises CrosscoderError for an unknown layout, a crosscoder without a normaliser, and one that the layout can't say.
    """
    folder = Path(folder)
    if layout not in get_args(Layout):
        raise CrosscoderError(f"unknown layout {layout!r}: give one of {', '.join(get_args(Layout))}")
    if crosscoder.read_model is not None:
        raise CrosscoderError(
            f"a read-out dictionary ({crosscoder.config.variant}) gives each model activations of its own, which no"
            " layout of a crosscoder says"
        )
    if not crosscoder.has_normaliser:
        raise CrosscoderError(
            "this crosscoder has no normaliser: give it one with with_normaliser(activations)"
        )
    if layout == "ckkissane":
        _ckkissane(crosscoder, folder, layer)
    else:
        _dictionary_learning(crosscoder, folder, layer)


def _dictionary_learning(crosscoder: Crosscoder, folder: Path, layer: int | None) -> None:
    config, d = crosscoder.config, crosscoder.width
    # Theirs is (x - mean) g with g = target_rms / |std|.
    std = crosscoder.scale[:, None].expand(2, d) / math.sqrt(d)
    tensors: dict[str, Tensor] = {
        "encoder.weight": crosscoder.W_enc,
        "encoder.bias": crosscoder.b_enc,
        "decoder.weight": crosscoder.W_dec,
        "decoder.bias": crosscoder.b_dec,
        "activation_mean": crosscoder.mean,
        "activation_std": std,
        "activation_global_scale": 1 / crosscoder.scale,
        "target_rms": torch.tensor(1.0),
        "code_normalization_id": torch.tensor(1),  # the sum of both decoders' norms
    }
    values: dict[str, Any] = {"activation_dim": d, "dict_size": crosscoder.n_latents, "num_layers": 2}
    if config.variant != "l1":
        # A threshold below zero says that none was set: the k of each token are taken.
        threshold = crosscoder.threshold if config.variant == "batchtopk" else torch.tensor(-1.0)
        tensors |= {"k": torch.tensor(config.k), "threshold": threshold}
        values |= {"k": config.k, "code_normalization": "CROSSCODER"}
    write_tensors(folder / "model.safetensors", tensors)
    write_text(folder / "config.json", json.dumps(values | _of_layer(layer), indent=2) + "\n")


def _ckkissane(crosscoder: Crosscoder, folder: Path, layer: int | None) -> None:
    if crosscoder.config.variant != "l1":
        raise CrosscoderError(
            f"the layout ckkissane keeps all that fires, and this crosscoder selects ({crosscoder.config.variant}):"
            " export it as dictionary_learning"
        )
    mean, scale = crosscoder.mean, crosscoder.scale[:, None, None]
    W_enc = crosscoder.W_enc / scale
    tensors = {
        "W_enc": W_enc,
        "b_enc": crosscoder.b_enc - torch.einsum("md,mdf->f", mean.double(), W_enc.double()).float(),
        "W_dec": crosscoder.raw_decoder().transpose(0, 1),
        "b_dec": crosscoder.raw_bias(),
    }
    with replacing(folder / "cc_weights.pt") as temporary:
        torch.save({name: part.detach().cpu().contiguous() for name, part in tensors.items()}, temporary)
    values = {"d_in": crosscoder.width, "dict_size": crosscoder.n_latents, "enc_dtype": "fp32"}
    if layer is not None:
        values |= {"hook_point": f"blocks.{layer}.hook_resid_post", "site": "resid_post"}
    write_text(folder / "cfg.json", json.dumps(values, indent=2) + "\n")


def _of_layer(layer: int | None) -> dict[str, int]:
    return {} if layer is None else {"layer": layer}
