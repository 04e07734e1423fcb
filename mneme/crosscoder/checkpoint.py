"""A training's state on disk: whole or absent, and only for the training it belongs to."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from mneme._util.errors import CrosscoderError
from mneme._util.files import replacing

_FILE = "checkpoint.pt"


def write_checkpoint(folder: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the checkpoint in one step."""
    with replacing(folder / _FILE) as temporary:
        torch.save({"identity": identity, "state": state}, temporary)


def read_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The state to go on from, or None where there is none or it is of another training.

    Raises CrosscoderError when the file is damaged.
    """
    file = folder / _FILE
    if not file.exists():
        return None
    damaged = f"{file} is damaged: delete it and run the same command again"
    try:
        with zipfile.ZipFile(file) as parts:
            broken = parts.testzip()  # torch.load doesn't look at the checksums
        if broken is not None:
            raise CrosscoderError(damaged)
        saved = torch.load(file, weights_only=True, map_location="cpu")
        return saved["state"] if saved["identity"] == identity else None
    except (
        *(pickle.UnpicklingError, RuntimeError, KeyError, EOFError, OSError),
        *(zipfile.BadZipFile, ValueError, zlib.error),
    ) as error:
        raise CrosscoderError(damaged) from error


def delete_checkpoint(folder: Path) -> None:
    """Training is done: its state is no longer needed, nor the folder, if nothing else is in it."""
    (folder / _FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
