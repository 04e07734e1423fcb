"""The files of an activation cache: safetensors shards, and an index that names those that are whole.

    index.json            settings, documents, and of every finished shard its size, counts and SHA-256
    00000.safetensors     activations (n, 2, d), document, position, token (n,) int32,
                          kl, nll_base, nll_tuned (n,) float32, document_tokens (T,) int32

A file is written beside its place and renamed, the index after the shard: a killed harvest leaves whole
shards and an index that knows them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mneme._util.errors import ActivationError

_log = logging.getLogger(__name__)

INDEX = "index.json"
FORMAT = 1
ROW_BYTES = 6 * 4  # document, position, token, kl, nll_base, nll_tuned


def shard_name(number: int) -> str:
    """00000.safetensors, 00001.safetensors, ..."""
    return f"{number:05d}.safetensors"


def write_shard(folder: Path, number: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Write a shard whole or not at all; its entry for the index."""
    file = folder / shard_name(number)
    temporary = _beside(file)
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        with temporary.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            os.fsync(stream.fileno())
        size = temporary.stat().st_size
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return {
        "file": file.name,
        "n": int(tensors["document"].shape[0]),
        "bytes": size,
        "sha256": digest,
    }


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write the index whole or not at all."""
    _write_whole(folder / INDEX, json.dumps(index, indent=1).encode())


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index, None where there is none (or only a damaged or foreign one)."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s can't be read, and counts as missing: %s", folder / INDEX, error)
        return None
    return index if isinstance(index, dict) and index.get("format") == FORMAT else None


def check_shard(folder: Path, entry: dict[str, Any], *, content: bool) -> None:
    """Compare a shard with its index entry: its size, and with `content` its SHA-256.

    Raises ActivationError when the file is missing or damaged.
    """
    file = folder / entry["file"]
    whole = file.is_file() and file.stat().st_size == entry["bytes"]
    if whole and content:
        with file.open("rb") as stream:
            whole = hashlib.file_digest(stream, "sha256").hexdigest() == entry["sha256"]
    if not whole:
        raise ActivationError(f"{file} is missing or damaged: run the same harvest again to make it anew")


def _beside(file: Path) -> Path:
    return file.with_suffix(file.suffix + ".tmp")


def _write_whole(file: Path, data: bytes) -> None:
    temporary = _beside(file)
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
