"""What a stage is, and what it leaves; the stages themselves are in stages/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from mneme.store.seals import missing

if TYPE_CHECKING:
    from mneme.run.context import RunContext


@dataclass(frozen=True)
class StageResult:
    """What a stage leaves in the database."""

    tables: Mapping[str, pd.DataFrame | pa.Table] = field(default_factory=dict)
    latent_columns: pd.DataFrame | None = None
    """Further columns of `latents`: a `latent` column and those to set."""
    health: pd.DataFrame | None = None
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One arrow of the data flow."""

    name: str
    function: Callable[[RunContext], StageResult]
    settings: tuple[str, ...]
    """Sections and sources of the settings that its result depends on."""
    tables: tuple[str, ...]
    """Tables that are its own."""
    artefacts: tuple[str, ...] = ()
    """Files of the run that later stages need from it."""
    rooms: tuple[str, ...] = ()
    """Folders of the run that it fills and later stages read: sealed (mneme/store/seals.py)."""
    inputs: Callable[[RunContext], str] = lambda context: ""
    """What else its result depends on, as a text."""
    revision: int = 1
    """Raised when its code changes what it writes: runs made before are then made again."""

    def artefacts_exist(self, folder: Path) -> bool:
        """Whether all that later stages need of it is there, to the last file."""
        return all((folder / name).exists() for name in self.artefacts) and missing(folder, self.name) is None
