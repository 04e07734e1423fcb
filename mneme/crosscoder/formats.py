"""Crosscoders on disk: mneme's own files, `config.json` and `model.safetensors` (the hub mixin's layout).

Other tools' are read too: stored_files.py finds them, layouts.py reads them, origin.py what they say of themselves;
export.py writes them.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import Tensor

from mneme._util.errors import ConfigError, CrosscoderError
from mneme._util.files import replacing, write_text
from mneme._util.setting_names import current_name
from mneme._util.settings import from_mapping, to_mapping
from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.layouts import check_parts, read_layout
from mneme.crosscoder.origin import Origin, read_origin
from mneme.crosscoder.parts import Parts
from mneme.crosscoder.stored_files import Place, find, read_tensors

MODEL_TYPE = "mneme-crosscoder"
_CONFIG, _WEIGHTS = "config.json", "model.safetensors"


class Stored(NamedTuple):
    """A crosscoder as its files hold it, whatever their layout."""

    config: CrosscoderConfig
    width: int
    tensors: dict[str, Tensor]
    """By the names of `Crosscoder.state_dict()`; NaN in mean and scale where the layout stores no normaliser."""
    file: Path
    centres_input: bool = True
    """Whether a normaliser that is fitted later subtracts the mean."""
    origin: Origin = Origin()


def write(config: CrosscoderConfig, width: int, tensors: dict[str, Tensor], folder: str | Path) -> None:
    """Write config.json and model.safetensors, each whole or not at all.

    Raises RunError or DiskFullError where that can't be.
    """
    folder = Path(folder)
    write_tensors(folder / _WEIGHTS, tensors)
    values = {"model_type": MODEL_TYPE, "width": width, **to_mapping(config)}
    write_text(folder / _CONFIG, json.dumps(values, indent=2) + "\n")


def write_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file of safetensors, whole or not at all."""
    with replacing(file) as temporary:
        on_host = {name: part.detach().cpu().contiguous() for name, part in tensors.items()}
        save_file(on_host, temporary, metadata={"format": "pt"})


def read(source: str | Path) -> Stored:
    """Read a crosscoder's files: a file, a folder or a hub id, in mneme's own or another published layout.

    Raises CrosscoderError when files are missing, damaged, in another layout, or hold NaN or infinity.
    """
    place = find(str(source))
    tensors = read_tensors(place.weights)
    if place.settings.get("model_type") == MODEL_TYPE:
        width, parts = _own(place, tensors)
        check_parts(parts.tensors, place.weights)
        return Stored(parts.config, width, parts.tensors, place.weights)
    if {"W_enc", "threshold", "mean", "scale"} <= set(tensors):
        raise CrosscoderError(f"{place.weights} lies without its {_CONFIG}: put it beside the weights")
    parts = read_layout(tensors, place.settings, place.weights)
    check_parts(parts.tensors, place.weights)
    return Stored(
        parts.config,
        parts.tensors["b_dec"].shape[1],
        parts.tensors,
        place.weights,
        parts.centres_input,
        read_origin(place.settings, place.weights.parent.name),
    )


def check_width(source: str | Path, found: int, width: int) -> None:
    """Raises CrosscoderError where the crosscoder of `source` reads activations of another width than the models'."""
    if found != width:
        raise CrosscoderError(
            f"{source} reads activations of width {found}, these models have {width}: give the crosscoder of this pair"
        )


def _own(place: Place, tensors: dict[str, Tensor]) -> tuple[int, Parts]:
    names = {field.name for field in dataclasses.fields(CrosscoderConfig)}
    settings = {k: v for k, v in place.settings.items() if current_name("crosscoder", k) in names}
    file = place.weights.parent / _CONFIG
    try:
        config = from_mapping(CrosscoderConfig, settings, "crosscoder")
    except ConfigError as error:
        raise CrosscoderError(f"{file} is damaged ({error}): train the crosscoder again") from error
    width: Any = place.settings.get("width")
    if not isinstance(width, int):
        raise CrosscoderError(f"{file} gives no width: train the crosscoder again")
    return width, Parts(config, tensors)
