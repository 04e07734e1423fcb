"""Crosscoders on disk: mneme's own files, and the layouts others publish.

Own (the hub mixin's layout): `config.json` + `model.safetensors`. Read as well:

- dictionary_learning and the diffing-toolkit: model.safetensors with encoder.weight (2, d, F) and so on;
  their BatchTopK crosscoders select by threshold as ours do.
- ckkissane's crosscoder-model-diff: cfg.json and cc_weights.pt, W_dec (F, 2, d), all that fires is kept; the
  factors its inputs were scaled by are not stored.
- crosscoder_vis: cfg.json and model.pt, the same under model_state_dict.

In all of them f = relu(sum_m x_m W_enc^m + b_enc) on the normalised x: no decoder bias is subtracted first.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mneme._util.errors import ConfigError, CrosscoderError
from mneme._util.files import replacing, write_text
from mneme._util.setting_names import current_name
from mneme._util.settings import from_mapping, to_mapping
from mneme.crosscoder.config import CrosscoderConfig

MODEL_TYPE = "mneme-crosscoder"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_TORCH_FILES = ("cc_weights.pt", "model.pt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Stored(NamedTuple):
    """A crosscoder as its files hold it, whatever their layout."""

    config: CrosscoderConfig
    width: int
    tensors: dict[str, Tensor]
    """By the names of `Crosscoder.state_dict()`; NaN in mean and scale where the layout stores no normaliser."""
    folder: Path
    centres_input: bool = True
    """Whether a normaliser that is fitted later subtracts the mean."""


def write(config: CrosscoderConfig, width: int, tensors: dict[str, Tensor], folder: str | Path) -> None:
    """Write config.json and model.safetensors, each whole or not at all.

    Raises RunError or DiskFullError where that can't be.
    """
    folder = Path(folder)
    with replacing(folder / _WEIGHTS) as temporary:
        on_host = {name: part.detach().cpu().contiguous() for name, part in tensors.items()}
        save_file(on_host, temporary, metadata={"format": "pt"})
    values = {"model_type": MODEL_TYPE, "width": width, **to_mapping(config)}
    write_text(folder / _CONFIG, json.dumps(values, indent=2) + "\n")


def read(source: str | Path) -> Stored:
    """Read a crosscoder's files from a folder or a hub id, in any of the layouts above.

    Raises CrosscoderError when files are missing, damaged or in another layout.
    """
    return _read(_find(str(source)))


def check_width(source: str | Path, found: int, width: int) -> None:
    """Raises CrosscoderError where the crosscoder of `source` reads activations of another width than the models'."""
    if found != width:
        raise CrosscoderError(
            f"{source} reads activations of width {found}, these models have {width}: give the crosscoder of this pair"
        )


def _read(folder: Path) -> Stored:
    if (folder / _WEIGHTS).exists():
        tensors = _read_safetensors(folder / _WEIGHTS)
        values = _read_json(folder / _CONFIG)
        if values.get("model_type") == MODEL_TYPE:
            return _own(values, tensors, folder)
        if "encoder.weight" in tensors:
            return _dictionary_learning(tensors, folder)
    for name in _TORCH_FILES:
        if (folder / name).exists():
            return _relu_crosscoder(_read_torch(folder / name), folder)
    raise CrosscoderError(
        f"{folder} holds no crosscoder that mneme can read: it needs {_CONFIG} and {_WEIGHTS}"
        f" (or cfg.json and {' or '.join(_TORCH_FILES)})"
    )


# layouts


def _own(values: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Stored:
    names = {field.name for field in dataclasses.fields(CrosscoderConfig)}
    settings = {k: v for k, v in values.items() if current_name("crosscoder", k) in names}
    try:
        config = from_mapping(CrosscoderConfig, settings, "crosscoder")
    except ConfigError as error:
        raise CrosscoderError(
            f"{folder / _CONFIG} is damaged ({error}): train the crosscoder again"
        ) from error
    width = values.get("width")
    if not isinstance(width, int):
        raise CrosscoderError(f"{folder / _CONFIG} gives no width: train the crosscoder again")
    return Stored(config, width, tensors, folder)


def _dictionary_learning(tensors: dict[str, Tensor], folder: Path) -> Stored:
    """CrossCoder and BatchTopKCrossCoder; CodeNormalization other than CROSSCODER (1) selects differently."""
    W_enc = _part(tensors, "encoder.weight", folder)
    if W_enc.ndim != 3 or W_enc.shape[0] != 2:
        raise CrosscoderError(f"{folder} is a dictionary of {W_enc.shape[0]} models: mneme compares two")
    _, d, F = W_enc.shape
    threshold = tensors.get("threshold")
    if threshold is not None and int(tensors.get("code_normalization_id", torch.tensor(1))) != 1:
        raise CrosscoderError(
            f"{folder} selects latents by another norm than the sum of its decoders' norms: use one trained"
            " with code_normalization CROSSCODER"
        )
    if threshold is not None and float(threshold) < 0:
        # Never set in training: the k of each token are the nearest rule that needs no batch.
        variant = "topk"
    else:
        variant = "l1" if threshold is None else "batchtopk"
    config = dataclasses.replace(
        _plain_config(F, variant), k=int(tensors["k"]) if "k" in tensors else CrosscoderConfig().k
    )
    mean, scale = _dictionary_learning_normaliser(tensors, d, folder)
    parts = {
        "W_enc": W_enc,
        "b_enc": _part(tensors, "encoder.bias", folder),
        "W_dec": _part(tensors, "decoder.weight", folder),
        "b_dec": _part(tensors, "decoder.bias", folder),
        "threshold": torch.tensor(math.nan) if threshold is None else threshold,
        "mean": mean,
        "scale": scale,
    }
    return Stored(config, d, parts, folder)


def _dictionary_learning_normaliser(
    tensors: dict[str, Tensor], d: int, folder: Path
) -> tuple[Tensor, Tensor]:
    """Theirs is (x - mean) g with one g a model: our scale is 1 / g. Stored as NaN: inputs are taken raw."""
    if "activation_mean" not in tensors:
        return torch.full((2, d), math.nan), torch.full((2,), math.nan)
    mean, std = tensors["activation_mean"], _part(tensors, "activation_std", folder)
    if bool(mean.isnan().any()) or bool(std.isnan().any()):
        return torch.zeros(2, d), torch.ones(2)
    gain = tensors.get("activation_global_scale")
    if gain is None:
        gain = tensors.get("target_rms", torch.tensor(1.0)) / std.square().sum(-1).sqrt()
    elif bool((gain == 1).all()):
        raise CrosscoderError(
            f"{folder} scales every dimension on its own, mneme a model as a whole: use one trained with"
            " keep_relative_variance"
        )
    return mean, 1 / gain.reshape(2)


def _relu_crosscoder(tensors: dict[str, Tensor], folder: Path) -> Stored:
    """W_enc (2, d, F), W_dec (F, 2, d): all that fires is kept; the input scale factors are not stored."""
    W_enc = _part(tensors, "W_enc", folder)
    if W_enc.ndim != 3 or W_enc.shape[0] != 2:
        raise CrosscoderError(f"{folder} has encoder weights of shape {tuple(W_enc.shape)}, not (2, d, F)")
    _, d, F = W_enc.shape
    parts = {
        "W_enc": W_enc,
        "b_enc": _part(tensors, "b_enc", folder),
        "W_dec": _part(tensors, "W_dec", folder).transpose(0, 1),
        "b_dec": _part(tensors, "b_dec", folder),
        "threshold": torch.tensor(math.nan),
        "mean": torch.full((2, d), math.nan),
        "scale": torch.full((2,), math.nan),
    }
    # their inputs are scaled to a mean norm of sqrt(d), not centred
    return Stored(_plain_config(F, "l1"), d, parts, folder, centres_input=False)


def _plain_config(n_latents: int, variant: Any) -> CrosscoderConfig:
    return CrosscoderConfig(n_latents=n_latents, variant=variant, encoder_dtype="float32")


# files


def _find(source: str) -> Path:
    """The folder itself, or the hub's copy of it."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        return folder.parent
    if not _HUB_ID.fullmatch(source):
        raise CrosscoderError(f"{source} is no folder: name a crosscoder's folder or a hub id (owner/name)")
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["config.json", "cfg.json", "*.safetensors", *_TORCH_FILES]
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise CrosscoderError(
            f"{source} is neither a folder here nor to be had from the hub: check the name and the network"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CrosscoderError(f"{file} is damaged: train or download the crosscoder again") from error
    return values if isinstance(values, dict) else {}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CrosscoderError(f"{file} is damaged: train or download the crosscoder again") from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CrosscoderError(f"{file} is damaged: download the crosscoder again") from error
    values = values.get("model_state_dict", values)
    return {name.removeprefix("_orig_mod."): value for name, value in values.items()}


def _part(tensors: dict[str, Tensor], name: str, folder: Path) -> Tensor:
    if name not in tensors:
        raise CrosscoderError(f"{folder} lacks {name}: train or download the crosscoder again")
    return tensors[name]
