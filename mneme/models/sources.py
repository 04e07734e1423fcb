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
from typing import Any, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from mneme._util.errors import ModelError
from mneme.models.bundled import bundled_base_folder, bundled_tuned_folder
from mneme.models.gguf import converted_folder
from mneme.models.hints import hint
from mneme.models.quiet import quiet_transformers

Kind = Literal["weights", "adapter", "delta"]
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files of which transformers reads the first that is there."""
MEMORY = "memory:"
"""Before the name of a model that a program held."""
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.toml", "*.py"]


@dataclass(frozen=True)
class Source:
    """A model that was found: `base` is what an adapter or delta builds on, as its maker wrote it."""

    spec: str
    folder: Path
    kind: Kind
    base: str | None = None


def resolve(spec: str, *, fetch: bool = True) -> Source:
    """Find the model that `spec` names; `fetch`: ask the hub for what its local cache lacks.

    Raises ModelError when nothing is there, or what is there is no model.
    """
    if spec == "bundled:base":
        return _inspect(spec, bundled_base_folder())
    if spec == "bundled:tuned":
        return _inspect(spec, bundled_tuned_folder())
    if spec.startswith(MEMORY):
        raise ModelError(
            f"{spec} was a model in the memory of a program: save it with save_pretrained, and give its folder"
        )
    if spec.startswith("bundled:"):
        raise ModelError(f"unknown model {spec!r}: bundled are bundled:base and bundled:tuned")
    path = Path(spec).expanduser()
    if path.is_dir():
        _check_ground(spec, path)
        return _inspect(spec, path)
    if path.is_file():
        if path.suffix == ".gguf":
            return _inspect(spec, converted_folder(path))
        raise ModelError(
            f"{spec} is no model file: give a folder with config.json and weights, or a .gguf file"
        )
    if not is_hub_id(spec):
        raise ModelError(f"no model at {spec}: give an existing folder, a .gguf file or a hub id")
    return _inspect(spec, _fetch(spec, fetch))


def _check_ground(spec: str, folder: Path) -> None:
    """Raises ModelError for an adapter or delta that is built, through others of local folders, on itself."""
    seen = {folder.resolve(): spec}
    while (source := _inspect(spec, folder)).base is not None:
        spec, folder = source.base, Path(source.base).expanduser()
        if not folder.is_dir():
            return
        if folder.resolve() in seen:
            raise ModelError(
                f"{next(iter(seen.values()))} is built on itself ({' on '.join([*seen.values(), spec])}): name the"
                " model it was made from, in its recipe.toml or adapter_config.json"
            )
        seen[folder.resolve()] = spec


def is_hub_id(spec: str) -> bool:
    """Whether a spec can name a repository of the hub: nothing of that name lies here, and it looks like one."""
    path = Path(spec).expanduser()
    local = (
        path.is_absolute()
        or spec.startswith((".", "~", "bundled:"))
        or path.suffix == ".gguf"
        or path.exists()
    )
    return not local and spec.count("/") <= 1 and "\\" not in spec


def _inspect(spec: str, folder: Path) -> Source:
    """Which kind of model lies in `folder`."""
    if (folder / "recipe.toml").is_file() and (folder / "delta.safetensors").is_file():
        try:
            base = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))["base"]
        except (ValueError, KeyError, OSError, RecursionError) as error:
            raise ModelError(f'{folder / "recipe.toml"} must be TOML with a line base = "MODEL"') from error
        return Source(spec, folder, "delta", str(base))
    if (folder / "adapter_config.json").is_file():
        return _inspect_adapter(spec, folder)
    if not (folder / "config.json").is_file():
        if told := hint(folder):
            raise ModelError(f"{spec} {told}")
        raise ModelError(
            f"{spec} holds no model: it needs config.json with weights, adapter_config.json, or recipe.toml"
            " with delta.safetensors"
        )
    _read_json(folder / "config.json")
    if not _has(folder, WEIGHTS):
        if told := hint(folder):
            raise ModelError(f"{spec} {told}")
        raise ModelError(
            f"{spec} has no weights: put {WEIGHTS[0]}, or its shards and index, beside config.json"
        )
    return Source(spec, folder, "weights")


def _inspect_adapter(spec: str, folder: Path) -> Source:
    """A PEFT adapter; a folder that holds a whole model too could mean either."""
    config = _read_json(folder / "adapter_config.json")
    if (folder / "config.json").is_file() and _has(folder, WEIGHTS):
        raise ModelError(
            f"{spec} holds both a model and an adapter: move adapter_config.json and {ADAPTER_WEIGHTS[0]} to a folder"
            " of their own, and give the one you mean"
        )
    if not _has(folder, ADAPTER_WEIGHTS):
        raise ModelError(f"{spec} has no weights: put {ADAPTER_WEIGHTS[0]} beside adapter_config.json")
    if "peft_type" not in config:
        raise ModelError(
            f"{folder / 'adapter_config.json'} names no peft_type: save the adapter again with PEFT"
        )
    base = config.get("base_model_name_or_path")
    return Source(spec, folder, "adapter", str(base) if base else None)


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelError for anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{file} can't be read as JSON: get it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file} must hold a JSON object, it holds a {type(found).__name__}: get it again")
    return found


def _has(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)


def _fetch(spec: str, fetch: bool) -> Path:
    """The hub repository `org/name[@revision]` in the hub's local cache."""
    name, _, revision = spec.partition("@")
    options: dict[str, Any] = {"revision": revision or None} | ({} if fetch else {"local_files_only": True})
    try:
        with quiet_transformers():
            patterns = [*_SMALL_FILES, "*.safetensors"]
            folder = Path(snapshot_download(name, allow_patterns=patterns, **options))
            if not any(folder.glob("*.safetensors")):  # an older repository: pickled weights only
                patterns = [*_SMALL_FILES, "*.bin"]
                folder = Path(snapshot_download(name, allow_patterns=patterns, **options))
            return folder
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ModelError(
            f"unknown model {spec!r}: no such folder, and the hub doesn't give it"
            f" ({type(error).__name__}); check the name, or give the path of a local folder"
        ) from error
