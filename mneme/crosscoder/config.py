"""Settings of the crosscoder and of its training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mneme._util.errors import ConfigError
from mneme._util.settings import (
    Count,
    LearningRate,
    NotNegative,
    Positive,
    Seed,
    Share,
    ShareInside,
    Tokens,
    section,
)

Latents = Annotated[int, Field(ge=1, le=10**15)]
Expansion = Annotated[int, Field(ge=1, le=2**20)]
Epochs = Annotated[float, Field(gt=0, le=1e6)]
ShareBelow = Annotated[float, Field(ge=0, lt=1)]
KStart = Annotated[float, Field(ge=1, le=1e6)]

Variant = Literal["batchtopk", "topk", "l1", "base", "tuned"]
READ_OUT = ("base", "tuned")
"""Variants that are trained on one model's activations alone, and read on each model by itself."""
ImportedScale = Literal["auto", "fitted", "folded"]
Init = Literal["kmeans", "data", "random"]


@section("crosscoder")
class CrosscoderConfig:
    """How large the dictionary is and how it is learned."""

    n_latents: Latents | None = Field(
        default=None, description="F, number of latents; default: expansion_factor x width"
    )
    expansion_factor: Expansion = Field(default=8, description="F / d where n_latents is not given")
    k: Count = Field(default=32, description="active latents per token, on average over a batch (BatchTopK)")
    variant: Variant = Field(
        default="batchtopk",
        description="batchtopk: the k*B largest of a batch; topk: k of each token; l1: a penalty;"
        " base, tuned: BatchTopK of that model's activations alone, read on each model by itself",
    )
    epochs: Epochs = Field(default=7.0, description="passes over the activations")
    held_out_share: ShareBelow = Field(
        default=0.3,
        description="share of the documents that training does not read; what is said of latents rests on these",
    )
    tokens: Tokens | None = Field(
        default=None,
        description="tokens to train on, repeated as needed; default: epochs x corpus, held-out text included",
    )
    batch_size: Count = Field(default=2048, description="tokens per step")
    learning_rate: LearningRate = Field(default=1.2e-3, description="Adam's step size at its height")
    warmup_share: Share = Field(default=0.05, description="share of the steps it rises over")
    decay_share: Share = Field(default=0.3, description="last share of the steps it falls to zero over")
    init: Init = Field(
        default="random",
        description="first directions: centroids of the pairs of activations, drawn pairs, or random ones",
    )
    k_start: KStart = Field(default=4.0, description="training begins with this many times k")
    k_anneal_share: Share = Field(
        default=0.15, description="first share of the steps over which k falls to its value"
    )
    auxk_alpha: NotNegative = Field(default=1 / 32, description="weight of the AuxK loss (Gao et al. 2024)")
    aux_k: Count | None = Field(
        default=None, description="dead latents per token that explain the residual; default: d / 2"
    )
    dead_feature_threshold: Tokens = Field(
        default=10_000_000, description="tokens without firing after which a latent is dead"
    )
    dead_share: Share = Field(
        default=0.05, description="... or this share of the training's tokens, if that is fewer"
    )
    threshold_decay: ShareInside = Field(
        default=0.999,
        description="EMA of the smallest selected value, a step; corrected for its start",
    )
    l1_weight: NotNegative = Field(default=4.0, description="weight of the penalty, variant l1 only")
    clip: Positive = Field(default=1.0, description="largest l2 norm of the whole gradient")
    encoder_dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto",
        description="precision of the encoder's product; auto: bfloat16 where the hardware has it",
    )
    kernel: Literal["auto", "sparse", "dense"] = Field(
        default="auto", description="the fast step or the plain one it is tested against"
    )
    latent_shards: Count = Field(
        default=1,
        description="processes (torchrun) that hold one copy of the latents together; one alone holds all",
    )
    seed: Seed = Field(default=0, description="of the initial weights and of the order of batches")
    log_every: Count = Field(default=20, description="steps between rows of the loss curve")
    checkpoint_every: Count = Field(default=100, description="steps between checkpoints")

    imported_scale: ImportedScale = Field(
        default="auto",
        description="of a crosscoder from elsewhere whose files store no scale: folded (into its weights), fitted (to"
        " these activations), auto: whichever explains more of them",
    )

    def latents_for(self, width: int) -> int:
        """F for a model of this width."""
        return self.n_latents if self.n_latents is not None else self.expansion_factor * width

    def check_size(self, width: int) -> None:
        """Raises ConfigError where as many latents would be active as there are: that is no sparse dictionary."""
        latents = self.latents_for(width)
        if self.variant != "l1" and self.k >= latents:
            raise ConfigError(
                f"crosscoder.k = {self.k} must be below the {latents:,} latents: lower it, or raise"
                " crosscoder.n_latents"
            )
