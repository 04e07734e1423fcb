"""What the readers of other tools' layouts give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mneme._util.errors import CrosscoderError
from mneme.crosscoder.config import CrosscoderConfig


class Parts(NamedTuple):
    """A crosscoder in mneme's terms."""

    config: CrosscoderConfig
    tensors: dict[str, Tensor]
    centres_input: bool = True
    """Whether a normaliser that is fitted later subtracts the mean."""


def part(tensors: Mapping[str, Tensor], name: str, file: Path) -> Tensor:
    """A tensor that must be there. Raises CrosscoderError."""
    if name not in tensors:
        raise CrosscoderError(f"{file} lacks {name}: train or download the crosscoder again")
    return tensors[name]
