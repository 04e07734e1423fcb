"""A GGUF file, converted once to an ordinary transformers folder.

llama.cpp's format packs weights in 4 bits; transformers reads it but takes a while over it, refuses to save what it
read, fills what the file lacks with random numbers and drops what it has no place for. So the file's weights, every one
accounted for (gguf_parts.py), go into a fresh model of the same config, which is saved in the cache; every later load
is an ordinary one. Weights that are whole numbers of their kind (F32, F16, BF16) keep their precision; those unpacked
from fewer bits are kept as bfloat16.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

from mneme._util.errors import DiskFullError, ModelError, first_line
from mneme.models.quiet import quiet_transformers

# struct.error: counts and lengths that point beyond the file
_ERRORS = (OSError, ValueError, RuntimeError, LookupError, ImportError, TypeError, AttributeError, ArithmeticError,
           MemoryError, struct.error)  # fmt: skip
_REVISION = 2
"""Raised when a conversion gives other weights than before: files are then converted again."""


def cache_folder() -> Path:
    """Where converted models are kept: $MNEME_CACHE, else ~/.cache/mneme."""
    return Path(os.environ.get("MNEME_CACHE") or Path.home() / ".cache" / "mneme")


def converted_folder(file: Path, identity: str | None = None) -> Path:
    """The transformers folder made from a GGUF file, made now if it isn't in the cache.

    `identity` tells one content from another; by default the file's path, size and time of change.
    Safe when several processes ask at once, and when one is killed: the folder appears whole or not at all.

    Raises ModelError for a file that is no GGUF model of a known architecture, DiskFullError.
    """
    if identity is None:
        stat = file.stat()
        identity = f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}:{_REVISION}"
    name = f"{file.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"
    target = cache_folder() / name
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Dequantised 4-bit weights in bfloat16 are about four times the file.
        if shutil.disk_usage(target.parent).free < 5 * file.stat().st_size:
            raise DiskFullError(
                f"not enough room in {target.parent} to unpack {file.name}: free some or set MNEME_CACHE"
            )
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{target.parent} can't be written: set MNEME_CACHE to another folder") from error
    try:
        _convert(file, temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _convert(file: Path, folder: Path) -> None:
    """Write `file`'s model, tokenizer and config into `folder`."""
    # Imported here: finding a model that is already converted must not wait for torch.
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from mneme.models.gguf_parts import check_header, rope_settings, stored_types, unread
    from mneme.models.tokenizers import fitted
    from mneme.models.whole import check_whole

    with quiet_transformers():
        try:
            header = check_header(file)
            whole: Any = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # check_whole says which
            )
            loaded, info = whole
            tokenizer = AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
        except _ERRORS as error:
            raise ModelError(
                f"{file} can't be read as a GGUF model ({first_line(error)}): give another file or a folder"
            ) from error
        check_whole(str(file), info)
        if left := unread(header, loaded):
            raise ModelError(
                f"{file} holds {len(left)} weights of layers that its architecture has no place for (first {left[0]}):"
                " give the model's folder of safetensors instead"
            )
        # In the fresh model nothing remembers the file it came from, least of all the quantisation.
        settings = {**loaded.config.to_dict(), **rope_settings(file, header, loaded.config)}
        settings.pop("quantization_config", None)
        config = AutoConfig.for_model(**settings)
        weights = stored_types(loaded.state_dict(), header)
        config.dtype = header.dtype or torch.bfloat16
        fresh = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        fresh.load_state_dict(weights, assign=True)
        fresh.tie_weights()
        fresh.generation_config = loaded.generation_config
        fresh.save_pretrained(folder)
        fitted(tokenizer, int(loaded.get_input_embeddings().weight.shape[0])).save_pretrained(folder)
