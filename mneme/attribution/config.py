"""The settings of the attribution stage: when is a change a change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Interval = Literal["fieller", "bootstrap"]


@dataclass(frozen=True)
class AttributionConfig:
    """How latents are measured and judged (`docs/method.md`, "Evidence and verdicts")."""

    margin: float = field(
        default=0.2,
        metadata={"doc": "Equivalence margin on |log_ratio|, natural log: 0.2 is a change of 22%."},
    )
    level: float = field(default=0.95, metadata={"doc": "Coverage of the intervals, a share in (0, 1)."})
    fdr: float = field(
        default=0.05, metadata={"doc": "False-discovery rate over live latents (Benjamini-Hochberg)."}
    )
    interval: Interval = field(
        default="fieller",
        metadata={
            "doc": "'fieller': the ratio's exact interval from document-level sums, Student's t; "
            "'bootstrap': percentiles of a Poisson bootstrap over documents."
        },
    )
    replicates: int = field(
        default=200, metadata={"doc": "Bootstrap replicates; only used by interval = 'bootstrap'."}
    )
    seed: int = field(default=0, metadata={"doc": "Seed of the bootstrap's document weights."})
    common_scale: bool = field(
        default=True,
        metadata={
            "doc": "Judge changes against the log_ratio most latents share, so that a model whose whole "
            "residual stream grew is not one where every latent was amplified."
        },
    )
    redirected_cosine: float = field(
        default=0.7,
        metadata={"doc": "A latent whose two decoders have a lower cosine than this is redirected."},
    )
    redirected_norm: float = field(
        default=0.3,
        metadata={"doc": "... if the smaller decoder norm is at least this share of the larger."},
    )
    both_probes_below: float = field(
        default=0.7,
        metadata={
            "doc": "Changes smaller than this (natural log; 0.7 is a factor of 2) must show along both decoders, "
            "or the latent is uncertain."
        },
    )
    dense_rate: float = field(
        default=0.2, metadata={"doc": "A latent that fires on more than this share of tokens is dense."}
    )
    first_positions: int = field(
        default=5, metadata={"doc": "How many positions, in tokens, count as the start of a document."}
    )
    position_share: float = field(
        default=0.5,
        metadata={"doc": "A latent with more than this share of its firings there is position-bound."},
    )
    coupling: float = field(
        default=0.1,
        metadata={"doc": "Latents are grouped when firing correlation x direction cosine exceeds this."},
    )
    ridge: float = field(
        default=0.01, metadata={"doc": "rho of the joint solution, a share of the mean diagonal of G."}
    )
    max_group: int = field(
        default=64, metadata={"doc": "Most latents in one correlated group: weaker links are cut first."}
    )
    joint_tokens: int = field(
        default=1_000_000, metadata={"doc": "Tokens used to measure correlations between latents."}
    )
    batch_size: int = field(default=2048, metadata={"doc": "Tokens encoded at a time."})

    def __post_init__(self) -> None:
        for name in ("level", "fdr", "dense_rate", "position_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        for name in ("margin", "ridge"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("replicates", "max_group", "joint_tokens", "batch_size"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be 2 or more, not {getattr(self, name)}")
        if self.interval not in ("fieller", "bootstrap"):
            raise ValueError(f"interval must be 'fieller' or 'bootstrap', not {self.interval!r}")
