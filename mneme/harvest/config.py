"""Settings of the harvest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class HarvestConfig:
    """How activations are read."""

    layer: int | None = field(
        default=None,
        metadata={
            "doc": "layer (from 0) whose output is read; default: the middle, n_layers // 2 - 1, or the first changed"
            " one where that comes later"
        },
    )
    context_length: int = field(
        default=256,
        metadata={"doc": "most tokens read at once, BOS included (at most what the models take)"},
    )
    max_tokens: int | None = field(
        default=None, metadata={"doc": "tokens of text to read, over all topics in turn; default: all"}
    )
    cache_gb: float | None = field(
        default=None,
        metadata={
            "doc": "most disk space of the activations, GB: text beyond is left out as by max_tokens; default: no cap"
        },
    )
    min_tokens: int = field(default=512, metadata={"doc": "a corpus of fewer tokens is refused"})
    batch_tokens: int = field(
        default=4096, metadata={"doc": "most tokens in a forward pass, padding included"}
    )
    behaviour_share: float = field(
        default=0.3,
        metadata={"doc": "share of documents on which KL and next-token NLL are measured, in [0, 1]"},
    )
    behaviour_tokens: int = field(
        default=64,
        metadata={"doc": "tokens of such a document that are measured, from its first on; a window at most"},
    )
    sink_ratio: float = field(
        default=10.0,
        metadata={"doc": "tokens whose norm is over this many medians in either model are left out"},
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = field(
        default="auto", metadata={"doc": "precision of the models; auto: bfloat16 where the hardware has it"}
    )
    device: str = field(default="auto", metadata={"doc": "auto, cpu, cuda or cuda:N"})
    remote: Literal["ndif"] | None = field(
        default=None,
        metadata={
            "doc": "ndif: the models run on the server of NDIF_HOST with the key of NDIF_API_KEY (docs/scaling.md);"
            " default: here"
        },
    )
    store_dtype: Literal["bfloat16", "float32"] = field(
        default="bfloat16", metadata={"doc": "precision of stored activations"}
    )
    shard_tokens: int = field(default=16384, metadata={"doc": "tokens in a shard, to within a document"})
    share_layers: bool = field(
        default=True, metadata={"doc": "run the layers before the first changed one once for both models"}
    )
    seed: int = field(default=0, metadata={"doc": "chooses the documents whose behaviour is measured"})

    def __post_init__(self) -> None:
        if self.context_length < 2:
            raise ValueError("context_length must be at least 2")
        if not 0 <= self.behaviour_share <= 1:
            raise ValueError("behaviour_share must be between 0 and 1")
        if self.remote is not None and self.behaviour_share > 0:
            raise ValueError("remote models give activations, not predictions: set behaviour_share = 0")
        if self.sink_ratio <= 1:
            raise ValueError("sink_ratio must be more than 1")
        if self.cache_gb is not None and self.cache_gb <= 0:
            raise ValueError("cache_gb must be above 0")
        for name in ("batch_tokens", "shard_tokens", "min_tokens", "max_tokens", "behaviour_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")
