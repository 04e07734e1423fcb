"""Settings of the crosscoder and of its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mneme._util.errors import ConfigError

Variant = Literal["batchtopk", "topk", "l1"]


@dataclass(frozen=True)
class CrosscoderConfig:
    """How large the dictionary is and how it is learned."""

    latents: int | None = field(
        default=None, metadata={"doc": "F, number of latents; default: expansion x width"}
    )
    expansion: int = field(default=8, metadata={"doc": "F / d where latents is not given"})
    k: int = field(
        default=32, metadata={"doc": "active latents a token, on average over a batch (BatchTopK)"}
    )
    variant: Variant = field(
        default="batchtopk",
        metadata={"doc": "batchtopk: the k*B largest of a batch; topk: k of each token; l1: a penalty"},
    )
    epochs: float = field(default=7.0, metadata={"doc": "passes over the activations"})
    tokens: int | None = field(
        default=None, metadata={"doc": "tokens to train on, repeated as needed; default: epochs x corpus"}
    )
    batch_size: int = field(default=2048, metadata={"doc": "tokens a step"})
    learning_rate: float = field(default=1.2e-3, metadata={"doc": "Adam's step size at its height"})
    warmup_share: float = field(default=0.05, metadata={"doc": "share of the steps it rises over"})
    decay_share: float = field(default=0.3, metadata={"doc": "last share of the steps it falls to zero over"})
    k_start: float = field(default=4.0, metadata={"doc": "training begins with this many times k"})
    k_anneal_share: float = field(
        default=0.15, metadata={"doc": "first share of the steps over which k falls to its value"}
    )
    aux_alpha: float = field(default=1 / 32, metadata={"doc": "weight of the AuxK loss (Gao et al. 2024)"})
    aux_k: int | None = field(
        default=None, metadata={"doc": "dead latents a token that explain the residual; default: d / 2"}
    )
    dead_after: int = field(
        default=10_000_000, metadata={"doc": "tokens without firing after which a latent is dead"}
    )
    dead_share: float = field(
        default=0.05, metadata={"doc": "... or this share of the training's tokens, if that is fewer"}
    )
    threshold_decay: float = field(
        default=0.999,
        metadata={"doc": "EMA of the smallest selected value, a step; corrected for its start"},
    )
    l1_weight: float = field(default=4.0, metadata={"doc": "weight of the penalty, variant l1 only"})
    clip: float = field(default=1.0, metadata={"doc": "largest l2 norm of the whole gradient"})
    encoder_dtype: Literal["auto", "bfloat16", "float32"] = field(
        default="auto",
        metadata={"doc": "precision of the encoder's product; auto: bfloat16 where the hardware has it"},
    )
    kernel: Literal["auto", "sparse", "dense"] = field(
        default="auto", metadata={"doc": "the fast step or the plain one it is tested against"}
    )
    latent_shards: int = field(
        default=1,
        metadata={
            "doc": "processes (torchrun) that hold one copy of the latents together; one alone holds all"
        },
    )
    seed: int = field(default=0, metadata={"doc": "of the initial weights and of the order of batches"})
    log_every: int = field(default=20, metadata={"doc": "steps between rows of the loss curve"})
    checkpoint_every: int = field(default=100, metadata={"doc": "steps between checkpoints"})

    def __post_init__(self) -> None:
        for name in ("expansion", "k", "batch_size", "log_every", "checkpoint_every", "latent_shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.latents is not None and self.latents < 1:
            raise ValueError("latents must be at least 1")
        if self.epochs <= 0 or (self.tokens is not None and self.tokens < 1):
            raise ValueError("epochs and tokens must be above 0")
        if self.learning_rate <= 0:
            raise ValueError("learning_rate must be above 0")
        for name in ("warmup_share", "decay_share", "k_anneal_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1")
        if self.k_start < 1:
            raise ValueError("k_start must be at least 1")
        if not 0 < self.threshold_decay < 1:
            raise ValueError("threshold_decay must lie between 0 and 1")

    def n_latents(self, width: int) -> int:
        """F for a model of this width."""
        return self.latents if self.latents is not None else self.expansion * width

    def check_size(self, width: int) -> None:
        """Raises ConfigError where as many latents would be active as there are: that is no sparse dictionary."""
        latents = self.n_latents(width)
        if self.variant != "l1" and self.k >= latents:
            raise ConfigError(
                f"crosscoder.k = {self.k} must be below the {latents:,} latents: lower it, or raise"
                " crosscoder.latents"
            )
