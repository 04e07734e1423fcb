"""The files of an activation cache: safetensors shards, and an index that names those that are whole.

    index.json            settings, documents, and of every finished shard its size, counts and SHA-256
    00000.safetensors     activations (n, 2, d), document, position, token (n,) int32,
                          kl, nll_base, nll_tuned (n,) float32, document_tokens (T,) int32

A file is written beside its place and renamed, the index after the shard: a killed harvest leaves whole
shards and an index that knows them.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mneme._util.errors import ActivationError
from mneme._util.files import replacing, sha256

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
    with replacing(file, durable=True) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
        digest, size = sha256(temporary), temporary.stat().st_size
    return {
        "file": file.name,
        "n": int(tensors["document"].shape[0]),
        "bytes": size,
        "sha256": digest,
    }


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write the index whole or not at all."""
    with replacing(folder / INDEX, durable=True) as temporary:
        temporary.write_text(json.dumps(index, indent=1), encoding="utf-8")


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
        whole = sha256(file) == entry["sha256"]
    if not whole:
        raise ActivationError(f"{file} is missing or damaged: run the same harvest again to make it anew")
