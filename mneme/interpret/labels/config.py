"""Settings of the labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class LabelConfig:
    """How latents are labelled, and how their labels are scored."""

    score_labels: bool = field(
        default=True, metadata={"doc": "score each label on held-out contexts with the sentence encoder"}
    )
    score_windows: int = field(
        default=6000, metadata={"doc": "most pieces of text the sentence encoder reads for the scores"}
    )
    llm: Literal["auto", "on", "off"] = field(
        default="auto",
        metadata={
            "doc": "labels by a language model behind an OpenAI-compatible server; auto: when OPENAI_MODEL"
            " and one of OPENAI_BASE_URL and OPENAI_API_KEY are set in the environment"
        },
    )
    llm_max_latents: int = field(
        default=200, metadata={"doc": "most latents the server labels: changed ones, most severe first"}
    )
    llm_max_tokens: int = field(
        default=1_000_000, metadata={"doc": "budget: tokens (prompt and reply) the server may be asked for"}
    )
    llm_concurrency: int = field(default=4, metadata={"doc": "requests in flight at once"})
    llm_timeout: float = field(default=60.0, metadata={"doc": "seconds to wait for one reply"})

    def __post_init__(self) -> None:
        if self.llm_concurrency < 1:
            raise ValueError("llm_concurrency must be at least 1")
