"""Whether a model's settings fit its files: false counts would take all memory, or never end, before a word is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mneme._util.errors import ModelError

_PER_BYTE = 16
"""Parameters that a byte of a file can stand for at most: of 2-bit weights it is four, and tied ones are there once."""


def check_plausible(spec: str, settings: Mapping[str, Any], n_bytes: int) -> None:
    """Raises ModelError where one matrix, or a vector of each layer, would be far larger than the files are.

    settings: transformers' names (`of_gguf` for those of GGUF). n_bytes: of all files of weights.
    """
    width, layers = (
        _count(settings, "hidden_size", "n_embd", "d_model"),
        _count(settings, "num_hidden_layers", "n_layer"),
    )
    heads, head = _count(settings, "num_attention_heads", "n_head"), _count(settings, "head_dim")
    inner = _count(settings, "intermediate_size", "n_inner", "ffn_dim")
    experts = _count(settings, "num_local_experts", "num_experts", "n_routed_experts")
    largest = {
        "vocab_size": _count(settings, "vocab_size") * width,
        "num_hidden_layers": layers * width,
        "hidden_size": width * width,
        "intermediate_size": inner * width,
        "head_dim": heads * head * width if head > 1 else 0,
        "num_experts": experts * width,
    }
    for name, parameters in largest.items():
        if parameters > _PER_BYTE * n_bytes + 2**20:
            raise ModelError(
                f"{spec}: its {name} can't be right: {parameters:,} parameters, and its weights are {n_bytes:,} bytes;"
                " get it again"
            )


def of_gguf(metadata: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """A GGUF file's settings by transformers' names."""
    names = {
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "vocab_size": "vocab_size",
        "expert_count": "num_experts",
        "attention.head_count": "num_attention_heads",
        "attention.key_length": "head_dim",
    }
    return {ours: metadata.get(f"{architecture}.{theirs}") for theirs, ours in names.items()}


def _count(settings: Mapping[str, Any], *names: str) -> int:
    """The first of these that is a number; 1 where none is."""
    found = (settings.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n > 0), 1)
