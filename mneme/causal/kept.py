"""Sums that were measured, as files in the run's folder: what is done is not done again.

    causal/latent-795.npz  causal/together-0.npz  ...

Each says which run and which settings it was made from. Those of another run are deleted; those of other settings
are measured again when they are asked for.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mneme._util.files import replacing
from mneme.causal.measure import Sums

_log = logging.getLogger(__name__)


class Kept:
    """The files of one run's folder. `run`: what the run's tables were made from."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        for file in folder.glob("*.npz"):
            if (found := _read(file)) is None or found[0] != run:
                file.unlink()

    def get(self, name: str, settings: str | None = None) -> Sums | None:
        """The sums of this name, where they were made with these settings (None: with any)."""
        found = _read(self.folder / f"{name}.npz")
        return found[2] if found is not None and settings in (None, found[1]) else None

    def put(self, name: str, settings: str, sums: Sums) -> None:
        """Write a file whole or not at all."""
        arrays: dict[str, Any] = {
            "made_from": np.array([self.run, settings]),
            "document": sums.document,
            "n_tokens": sums.n_tokens,
            "weight": sums.weight,
        }
        arrays |= {f"{patch}|{source}": values for (patch, source), values in sums.values.items()}
        with replacing(self.folder / f"{name}.npz") as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **arrays)

    def drop(self, pattern: str) -> None:
        """Delete files, by a pattern of their names."""
        for file in self.folder.glob(f"{pattern}.npz"):
            file.unlink()

    def latents(self) -> list[int]:
        """Latents whose sums are here."""
        return sorted(int(file.stem.split("-")[1]) for file in self.folder.glob("latent-*.npz"))


def _read(file: Path) -> tuple[str, str, Sums] | None:
    """(run, settings, sums); None for a file that isn't there or is damaged."""
    try:
        with np.load(file) as held:
            run, settings = held["made_from"].tolist()
            names = [key.split("|") for key in held.files if "|" in key]
            values = {(patch, source): held[f"{patch}|{source}"] for patch, source in names}
            return run, settings, Sums(held["document"], held["n_tokens"], held["weight"], values)
    except FileNotFoundError:
        return None
    except (
        *(OSError, ValueError, KeyError, SyntaxError, EOFError),
        *(zipfile.BadZipFile, NotImplementedError),
    ) as error:
        _log.warning("%s is damaged, and measured again: %s", file, error)
        return None
