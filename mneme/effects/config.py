"""Settings of the effects stage: which categories, how text is assigned to them, when a change counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mneme._util.settings import (
    Cosine,
    Count,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
    ShareInside,
    Text,
    Texts,
    section,
)

Window = Annotated[int, Field(ge=1, le=4096)]
Temperature = Annotated[float, Field(ge=1e-6, le=1e6)]
Replicates = Annotated[int, Field(ge=1, le=100_000)]


@section("effects")
class EffectsConfig:
    """How text and latents are assigned to categories, and changes judged (`docs/method.md`)."""

    taxonomy: Text = Field(
        default="default",
        description="categories: default, mmlu, mmlu_pro, harm, or the path of a TOML file of your own",
    )
    outcomes: Text | None = Field(
        default=None,
        description="CSV of measured outcomes to hold the prediction against: category, base, tuned",
    )
    intended: Texts = Field(
        default=(),
        description="categories that the tuning was meant to change; the evaluation is repeated without them",
    )
    window: Window = Field(
        default=48,
        description="tokens of text assigned to categories together; as interpret.window: text is embedded once",
    )
    temperature: Temperature = Field(
        default=0.04,
        description="cosine a category must lead another by to get e times its weight with a text",
    )
    min_similarity: Cosine = Field(
        default=0.2,
        description="cosine to the nearest category at which half of a text's weight is 'no category'",
    )
    min_weight: ShareBelowOne = Field(
        default=0.05, description="smaller weights, a share in [0, 1), are dropped"
    )
    assign: Literal["encoder", "llm", "both"] = Field(
        default="encoder",
        description="who assigns a latent's label to categories: the sentence encoder, the labelling model, or the mean"
        " of both; the model is asked about as many latents as it labels, under a budget of the same size",
    )
    label_weight: ShareBelowOne = Field(
        default=0.25,
        description="share of a latent's categories that comes from its label, the rest from its firing",
    )
    min_documents: NotNegative = Field(
        default=3.0,
        description="a category with less text, in documents (weights added up), stays uncertain",
    )
    affected_share_scale: Positive = Field(
        default=0.02,
        description="scale of the affected share: a passage whose tokens changed latents move by this share of the"
        " base's typical deviation from its mean counts as 63% affected",
    )
    min_affected_share: ShareBelowOne = Field(
        default=0.125,
        description="share of a category's text that must be affected for the category to count as changed",
    )
    nll_margin: Positive = Field(
        default=0.05,
        description="nats per token: a smaller change of NLL on a category's text is no change of behaviour",
    )
    kl_margin: Positive = Field(
        default=0.18,
        description="nats per token: no all-clear where the mean KL of the predictions is larger; what a tune on"
        " unrelated text gives (docs/method.md), unless `mneme null RUN --benign OTHER` has measured one",
    )
    level: ShareInside = Field(default=0.95, description="coverage of the intervals, a share in (0, 1)")
    replicates: Replicates = Field(
        default=500, description="bootstrap replicates, over documents or categories"
    )
    top_latents: Count = Field(default=20, description="latents listed for each category")
    seed: Seed = Field(default=0, description="of the bootstraps and of the random-latents baseline")
