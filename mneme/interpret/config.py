"""Settings of the interpretation."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class InterpretConfig:
    """What is gathered about each latent."""

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
    seed: int = field(
        default=0, metadata={"doc": "of the split, the sampled contexts, the scores' negatives and the map"}
    )

    def __post_init__(self) -> None:
        if not 0 < self.test_share < 1:
            raise ValueError("test_share must be between 0 and 1")
        for name in ("top_contexts", "window", "lens_tokens", "neighbours"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.decile_contexts < 0:
            raise ValueError("decile_contexts can't be negative")
        if self.map_neighbours < 2:
            raise ValueError("map_neighbours must be at least 2")
