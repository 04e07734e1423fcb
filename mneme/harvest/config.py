"""Settings of the harvest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mneme._util.settings import Amount, Count, Seed, Share, Text, Tokens, section

ContextLength = Annotated[int, Field(ge=2, le=2**31 - 1)]
Gigabytes = Annotated[float, Field(ge=1e-9, le=1e6)]
SinkRatio = Annotated[float, Field(gt=1, le=1e9)]


@section("harvest")
class HarvestConfig:
    """How activations are read."""

    layer: Amount | Literal["auto"] = Field(
        default="auto",
        description="layer (from 0) whose output is read; auto: from the middle on, the earliest whose stream holds 90%"
        " of the difference of the predictions, by the layer profile",
    )
    context_length: ContextLength = Field(
        default=256,
        description="most tokens read at once, BOS included (at most what the models take)",
    )
    max_tokens: Tokens | None = Field(
        default=None, description="tokens of text to read, over all topics in turn; default: all"
    )
    cache_gb: Gigabytes | None = Field(
        default=None,
        description="most disk space of the activations, GB: text beyond is left out as by max_tokens; default: no cap",
    )
    min_tokens: Tokens = Field(default=512, description="a corpus of fewer tokens is refused")
    batch_tokens: Count = Field(default=4096, description="most tokens in a forward pass, padding included")
    behaviour_share: Share = Field(
        default=0.3,
        description="share of documents on which KL and next-token NLL are measured, in [0, 1]",
    )
    behaviour_tokens: Count = Field(
        default=64,
        description="tokens of such a document that are measured, from its first on; a window at most",
    )
    sink_ratio: SinkRatio = Field(
        default=10.0,
        description="tokens whose norm is over this many medians in either model are left out",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="precision of the models; auto: bfloat16 where the hardware has it"
    )
    device: Text = Field(default="auto", description="auto, cpu, cuda or cuda:N")
    remote: Literal["ndif"] | None = Field(
        default=None,
        description="ndif: the models run on the server of NDIF_HOST with the key of NDIF_API_KEY (docs/scaling.md);"
        " default: here",
    )
    store_dtype: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="precision of stored activations"
    )
    shard_tokens: Count = Field(default=16384, description="tokens in a shard, to within a document")
    share_layers: bool = Field(
        default=True, description="run the layers before the first changed one once for both models"
    )
    seed: Seed = Field(default=0, description="chooses the documents whose behaviour is measured")

    def __post_init__(self) -> None:
        if self.remote is not None and self.behaviour_share > 0:
            raise ValueError("remote models give activations, not predictions: set behaviour_share = 0")
