"""What a GGUF file holds, held against what transformers makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.integrations.gguf.reader import GgufHeader, read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from mneme._util.errors import ModelError
from mneme.models.plausible import check_plausible, of_gguf

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_ROPE = "rope_freqs.weight"
# Tables that are computed anew, and experts, which transformers reads under names of its own.
_NO_WEIGHT = re.compile(r"rope_|rot_embd|_exps\.|attn_sinks")
# Llama 3.1 and later; only the factor differs between them.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def check_header(file: Path) -> GgufHeader:
    """The file's table of tensors. Raises ModelError for one shard of many."""
    metadata, names = read_gguf_metadata(str(file))
    if _SHARD.search(file.stem) or int(metadata.get("split.count", 1)) > 1:
        raise ModelError(
            f"{file} is one shard of a split model, and only whole files are read: join them"
            " (llama-gguf-split --merge FIRST-SHARD OUT.gguf) and give the result"
        )
    if "token_embd.weight" not in names:
        raise ModelError(f"{file} lacks token_embd.weight, the embeddings: get the whole model again")
    header = GgufHeader.from_file(str(file))
    check_plausible(str(file), of_gguf(metadata, header.architecture), file.stat().st_size)
    return header


def unread(header: GgufHeader, model: PreTrainedModel) -> list[str]:
    """Names of tensors of layers that found no place in the model."""
    kind: Callable[..., TensorProcessor] = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    try:
        places = get_gguf_hf_weights_map(model, kind(config=model.config.to_dict()))
    except NotImplementedError:
        return []  # read by transformers' newer reader, which tells itself (check_whole)
    names = [info.name for info in header.tensors]
    return sorted(
        name
        for name in names
        if name.startswith("blk.") and name not in places and not _NO_WEIGHT.search(name)
    )


def rope_settings(file: Path, header: GgufHeader, config: PreTrainedConfig) -> dict[str, Any]:
    """Settings of rotary embeddings that transformers doesn't take from the file; {} where there are none.

    Raises ModelError for those that no setting of transformers' stands for.
    """
    metadata, _ = read_gguf_metadata(str(file))
    now = getattr(config, "rope_parameters", None) or {}
    scaling = metadata.get(f"{header.architecture}.rope.scaling.type", "none")
    if now.get("rope_type", "default") != "default":
        return {}
    if _ROPE in header.ggml_types:
        return {"rope_parameters": _llama3(file, config)}
    if scaling == "linear":
        factor = metadata[f"{header.architecture}.rope.scaling.factor"]
        return {"rope_parameters": {**now, "rope_type": "linear", "factor": float(factor)}}
    if scaling != "none":
        raise ModelError(
            f"{file} scales its rotary embeddings by {scaling}, which can't be taken from a GGUF file: give the model's"
            " folder of safetensors instead"
        )
    return {}


def _llama3(file: Path, config: PreTrainedConfig) -> dict[str, Any]:
    """The setting whose frequencies are those of the file's table."""
    from gguf import GGUFReader

    table = next(t for t in GGUFReader(str(file)).tensors if t.name == _ROPE)
    divisors = torch.from_numpy(table.data.copy()).float().flatten()
    plain = config.rope_parameters
    asked = {**plain, "rope_type": "llama3", "factor": float(divisors.max()), **_LLAMA3}
    theta, width = float(plain["rope_theta"]), 2 * len(divisors)
    scaled = type(config)(**{**config.to_dict(), "rope_parameters": asked})
    found = ROPE_INIT_FUNCTIONS["llama3"](scaled, torch.device("cpu"))[0]
    expected = theta ** (-torch.arange(0, width, 2).float() / width) / divisors
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=1e-3):
        raise ModelError(
            f"{file} scales its rotary embeddings by a table that no setting stands for: give the model's folder of"
            " safetensors instead"
        )
    return asked


def stored_types(weights: Mapping[str, Any], header: GgufHeader) -> dict[str, Any]:
    """Each weight in the smallest type that holds it exactly; bfloat16 where it was unpacked from fewer bits."""
    if header.dtype is None:
        return {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    kinds = (header.dtype, torch.bfloat16)
    return {name: _smallest(tensor, kinds) for name, tensor in weights.items()}


def _smallest(tensor: torch.Tensor, kinds: tuple[torch.dtype, ...]) -> torch.Tensor:
    """The tensor (float32) in the first of these types that holds it exactly, else as it is."""
    for kind in kinds:
        if torch.equal(tensor.to(kind).float(), tensor):
            return tensor.to(kind)
    return tensor
