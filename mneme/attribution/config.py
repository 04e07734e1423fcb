"""The settings of the attribution stage: when is a change a change."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mneme._util.settings import Amount, Cosine, NotNegative, Positive, Seed, Share, ShareInside, section

TwoOrMore = Annotated[int, Field(ge=2, le=2**31 - 1)]
Replicates = Annotated[int, Field(ge=2, le=100_000)]

Interval = Literal["fieller", "bootstrap"]


@section("attribution")
class AttributionConfig:
    """How latents are measured and judged (`docs/method.md`, "Evidence and verdicts")."""

    margin: Positive = Field(
        default=0.2,
        description="Equivalence margin on |log_ratio|, natural log: 0.2 is a change of 22%.",
    )
    level: ShareInside = Field(default=0.95, description="Coverage of the intervals, a share in (0, 1).")
    fdr: ShareInside = Field(
        default=0.05, description="False-discovery rate over live latents (Benjamini-Hochberg)."
    )
    interval: Interval = Field(
        default="fieller",
        description="'fieller': the ratio's exact interval from document-level sums, Student's t; "
        "'bootstrap': percentiles of a Poisson bootstrap over documents.",
    )
    replicates: Replicates = Field(
        default=200, description="Bootstrap replicates; only used by interval = 'bootstrap'."
    )
    seed: Seed = Field(default=0, description="Seed of the bootstrap's document weights.")
    common_scale: bool = Field(
        default=True,
        description="Judge changes against the log_ratio most latents share, so that a model whose whole "
        "residual stream grew is not one where every latent was amplified.",
    )
    redirected_cosine: Cosine = Field(
        default=0.7,
        description="A latent whose decoders have a lower cosine than this may be redirected: it is where the two "
        "models' own directions, measured on the text, surely have one.",
    )
    redirected_norm: Share = Field(
        default=0.3,
        description="... if the smaller decoder norm is at least this share of the larger.",
    )
    both_probes_below: NotNegative = Field(
        default=0.7,
        description="Changes smaller than this (natural log; 0.7 is a factor of 2) must show along both decoders, "
        "or the latent is uncertain.",
    )
    dense_rate: ShareInside = Field(
        default=0.2, description="A latent that fires on more than this share of tokens is dense."
    )
    first_positions: Amount = Field(
        default=5, description="How many positions, in tokens, count as the start of a document."
    )
    position_share: ShareInside = Field(
        default=0.5,
        description="A latent with more than this share of its firings there is position-bound.",
    )
    coupling: Share = Field(
        default=0.1,
        description="Latents are grouped when firing correlation x direction cosine exceeds this.",
    )
    ridge: Positive = Field(
        default=0.01, description="rho of the joint solution, a share of the mean diagonal of G."
    )
    max_group: TwoOrMore = Field(
        default=64, description="Most latents in one correlated group: weaker links are cut first."
    )
    joint_tokens: TwoOrMore = Field(
        default=1_000_000, description="Tokens used to measure correlations between latents."
    )
    batch_size: TwoOrMore = Field(default=2048, description="Tokens encoded at a time.")
