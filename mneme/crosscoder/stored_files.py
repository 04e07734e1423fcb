"""Where a crosscoder's weights and settings lie: a file, a folder, a folder in a folder, or the hub.

What training tools leave behind is found as they leave it: `ae.pt` beside `config.json`, `0.pt` beside `0_cfg.json`,
weights in a folder named after the hook point. Where several could be meant, none is guessed. Nothing that a file holds
is run: pickled weights are read as tensors only.
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mneme._util.errors import CrosscoderError

NAMES = (
    "model.safetensors",
    "sae_weights.safetensors",
    "cc_weights.safetensors",
    "cc_weights.pt",
    "model.pt",
    "ae.pt",
)
"""Files of weights, of which the first that is there counts."""
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_NUMBERED = re.compile(r"(\d+)\.pt")
_CONFIGS = ("config.json", "cfg.json")
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)")
_DAMAGED = "train or download the crosscoder again"


class Place(NamedTuple):
    """What was found."""

    weights: Path
    settings: dict[str, Any]
    """Of the file beside the weights; {} where there is none."""


def find(source: str) -> Place:
    """The weights and settings that `source` names: a file, a folder or a hub id (owner/name, owner/name/FOLDER).

    Raises CrosscoderError where there are none, several, or they can't be read.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise CrosscoderError(
                f"{path} is no file of weights: give a {', '.join(_SUFFIXES)} file or its folder"
            )
        return Place(path, _settings_of(path))
    if not path.is_dir():
        path = _download(source)
    weights = _weights_in(path)
    return Place(weights, _settings_of(weights))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the processor. Raises CrosscoderError."""
    return _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)


def _weights_in(folder: Path) -> Path:
    for name in NAMES:
        if (folder / name).is_file():
            return folder / name
    numbered = [p for p in folder.iterdir() if _NUMBERED.fullmatch(p.name) and p.is_file()]
    below = [p for name in NAMES for pattern in (f"*/{name}", f"*/*/{name}") for p in folder.glob(pattern)]
    below += [p for p in folder.glob("*/*") if not numbered and _NUMBERED.fullmatch(p.name)]
    for found in (numbered, _first_of_each_folder(below)):
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted(str(p.relative_to(folder)) for p in found)[:5])
            raise CrosscoderError(
                f"{folder} holds {len(found)} files of weights ({names}): name the crosscoder's"
            )
    raise CrosscoderError(
        f"{folder} holds no crosscoder that mneme can read: it needs config.json and model.safetensors"
        f" (or {', '.join(NAMES[1:])}, or N.pt)"
    )


def _first_of_each_folder(files: list[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for file in files:
        found.setdefault(file.parent, file)
    return list(found.values())


def _settings_of(weights: Path) -> dict[str, Any]:
    """What the file of settings beside the weights says, or the one in the folder above."""
    names = (f"{weights.stem}_cfg.json", f"{weights.stem}.json", *_CONFIGS)
    for folder in (weights.parent, weights.parent.parent):
        for name in names:
            if (folder / name).is_file():
                return read_json(folder / name)
    return {}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file. Raises CrosscoderError for a damaged one."""
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CrosscoderError(f"{file} is damaged: {_DAMAGED}") from error
    return values if isinstance(values, dict) else {}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise CrosscoderError(f"{file} is damaged: {_DAMAGED}") from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as inside:
                if sum(part.file_size for part in inside.infolist()) > 2 * file.stat().st_size + 2**20:
                    raise CrosscoderError(f"{file} unpacks to more than it is: {_DAMAGED}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            values = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrosscoderError(
            f"{file} holds more than tensors, which would run code when it is read: it is not read;"
            " save its state_dict as safetensors, or give another file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError,
            MemoryError, RecursionError, UnicodeDecodeError, zipfile.BadZipFile) as error:  # fmt: skip
        raise CrosscoderError(f"{file} is damaged: {_DAMAGED}") from error
    for key in ("model_state_dict", "state_dict"):
        if isinstance(values, Mapping) and isinstance(values.get(key), Mapping):
            values = values[key]
    if not isinstance(values, Mapping):
        raise CrosscoderError(f"{file} holds no weights by name: save the crosscoder's state_dict")
    return {
        str(name).removeprefix("_orig_mod.").removeprefix("module."): value
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def _download(source: str) -> Path:
    """The hub's copy."""
    named = _HUB_ID.fullmatch(source)
    if named is None:
        raise CrosscoderError(
            f"{source} is no file or folder: name a crosscoder's file or folder, or a hub id (owner/name)"
        )
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, inside = named[1], named[2].strip("/")
    below = [f"{inside}/*{end}" for end in (".json", *_SUFFIXES)] if inside else []
    # First what lies at the top, of one crosscoder; then, where there is nothing, what lies in folders.
    top = below or [*_CONFIGS, "*_cfg.json", *NAMES]
    try:
        folder = Path(snapshot_download(repository, allow_patterns=top)) / inside
        if not below and not any((folder / name).is_file() for name in NAMES):
            ends = [*_CONFIGS, "*.pt", *(f"*/{name}" for name in (*_CONFIGS, *NAMES))]
            folder = Path(snapshot_download(repository, allow_patterns=ends))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise CrosscoderError(
            f"{source} is neither here nor to be had from the hub: check the name and the network"
        ) from error
    if not folder.is_dir():
        raise CrosscoderError(f"{repository} has no folder {inside}: look at its files on the hub")
    return folder
