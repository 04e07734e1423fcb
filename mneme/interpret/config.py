"""Settings of the interpretation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class InterpretConfig:
    """What is gathered about each latent, and how it is labelled."""

    top_contexts: int = field(default=20, metadata={"doc": "strongest contexts kept for each latent"})
    decile_contexts: int = field(
        default=4, metadata={"doc": "further contexts from each tenth of a latent's activations, by rank"}
    )
    window: int = field(default=48, metadata={"doc": "tokens in a context, around its strongest token"})
    test_share: float = field(
        default=0.4,
        metadata={"doc": "share of documents whose contexts only score labels, in (0, 1)"},
    )
    lens_tokens: int = field(
        default=10, metadata={"doc": "tokens kept at each end of a latent's logit lens, for each model"}
    )
    neighbours: int = field(
        default=8, metadata={"doc": "nearest latents kept, by decoder and by firing each"}
    )
    map_neighbours: int = field(
        default=15, metadata={"doc": "n_neighbors of UMAP: larger shows coarser shape"}
    )
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
    seed: int = field(
        default=0, metadata={"doc": "of the split, the sampled contexts, the negatives and the map"}
    )

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError("test_share must be between 0 and 1")
        for name in ("top_contexts", "window", "lens_tokens", "neighbours", "llm_concurrency"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.decile_contexts < 0:
            raise ValueError("decile_contexts can't be negative")
        if self.map_neighbours < 2:
            raise ValueError("map_neighbours must be at least 2")
