"""From what a user writes to a folder on disk, and what kind of folder it is.

bundled:base, bundled:tuned    what comes with mneme
model.gguf                     converted once to a transformers folder
a folder with config.json      transformers weights
a folder with adapter_config.json   a PEFT adapter, to be merged into its base
a folder with recipe.toml      a delta: a few tensors that replace those of its base
org/name, org/name@revision    a hub repository of any of these; fetched into the hub's cache
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import HfHubHTTPError

from mneme.errors import ModelError
from mneme.models.bundled import bundled_base_folder, bundled_tuned_folder
from mneme.models.gguf import converted_folder
from mneme.models.quiet import quiet_transformers

Kind = Literal["weights", "adapter", "delta"]
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.toml"]


@dataclass(frozen=True)
class Source:
    """A model that was found: `base` is what an adapter or delta builds on, as its maker wrote it."""

    spec: str
    folder: Path
    kind: Kind
    base: str | None = None


def resolve(spec: str) -> Source:
    """Find the model that `spec` names.

    Raises ModelError when nothing is there, or what is there is no model.
    """
    if spec == "bundled:base":
        return _inspect(spec, bundled_base_folder())
    if spec == "bundled:tuned":
        return _inspect(spec, bundled_tuned_folder())
    if spec.startswith("bundled:"):
        raise ModelError(f"unknown model {spec!r}: bundled are bundled:base and bundled:tuned")
    path = Path(spec).expanduser()
    if path.is_dir():
        return _inspect(spec, path)
    if path.is_file():
        if path.suffix == ".gguf":
            return _inspect(spec, converted_folder(path))
        raise ModelError(
            f"{spec} is no model file: give a folder with config.json and weights, or a .gguf file"
        )
    if path.is_absolute() or spec.startswith((".", "~")) or path.suffix == ".gguf" or spec.count("/") > 1:
        raise ModelError(f"no model at {spec}: give an existing folder, a .gguf file or a hub id")
    return _inspect(spec, _fetch(spec))


def _inspect(spec: str, folder: Path) -> Source:
    """Which kind of model lies in `folder`."""
    if (folder / "recipe.toml").is_file() and (folder / "delta.safetensors").is_file():
        try:
            base = tomllib.loads((folder / "recipe.toml").read_text())["base"]
        except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
            raise ModelError(f'{folder / "recipe.toml"} must be TOML with a line base = "MODEL"') from error
        return Source(spec, folder, "delta", str(base))
    if (folder / "adapter_config.json").is_file():
        try:
            base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
        except (json.JSONDecodeError, KeyError, UnicodeDecodeError) as error:
            raise ModelError(
                f"{folder / 'adapter_config.json'} must be JSON with base_model_name_or_path"
            ) from error
        return Source(spec, folder, "adapter", base)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{spec} holds no model: it needs config.json with weights, adapter_config.json, or recipe.toml"
            " with delta.safetensors"
        )
    if not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        raise ModelError(f"{spec} has no weights: put its .safetensors files beside config.json")
    return Source(spec, folder, "weights")


def _fetch(spec: str) -> Path:
    """The hub repository `org/name[@revision]` in the hub's local cache."""
    name, _, revision = spec.partition("@")
    try:
        with quiet_transformers():
            patterns = [*_SMALL_FILES, "*.safetensors"]
            folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
            if not any(folder.glob("*.safetensors")):  # an older repository: pickled weights only
                patterns = [*_SMALL_FILES, "*.bin"]
                folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
            return folder
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ModelError(
            f"unknown model {spec!r}: no such folder, and the hub doesn't give it"
            f" ({type(error).__name__}); check the name, or give the path of a local folder"
        ) from error
