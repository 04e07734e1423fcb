"""Settings of the effects stage: which categories, how text is assigned to them, when a change counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class EffectsConfig:
    """How text and latents are assigned to categories, and changes judged (`docs/method.md`)."""

    taxonomy: str = field(
        default="default",
        metadata={"doc": "categories: default, mmlu, mmlu_pro, harm, or the path of a TOML file of your own"},
    )
    outcomes: str | None = field(
        default=None,
        metadata={"doc": "CSV of measured outcomes to hold the prediction against: category, base, tuned"},
    )
    forget: tuple[str, ...] = field(
        default=(),
        metadata={"doc": "categories that were trained on; the evaluation is repeated without them"},
    )
    window: int = field(
        default=48,
        metadata={
            "doc": "tokens of text assigned to categories together; as interpret.window: text is embedded once"
        },
    )
    temperature: float = field(
        default=0.04,
        metadata={"doc": "cosine a category must lead another by to get e times its weight with a text"},
    )
    min_similarity: float = field(
        default=0.2,
        metadata={"doc": "cosine to the nearest category at which half of a text's weight is 'no category'"},
    )
    min_weight: float = field(
        default=0.05, metadata={"doc": "smaller weights, a share in [0, 1), are dropped"}
    )
    assign: Literal["encoder", "llm", "both"] = field(
        default="encoder",
        metadata={
            "doc": "who assigns a latent's label to categories: the sentence encoder, the labelling model, or the mean"
            " of both; the model is asked about as many latents as it labels, under a budget of the same size"
        },
    )
    label_weight: float = field(
        default=0.25,
        metadata={
            "doc": "share of a latent's categories that comes from its label, the rest from its firing"
        },
    )
    min_documents: float = field(
        default=3.0,
        metadata={"doc": "a category with less text, in documents (weights added up), stays uncertain"},
    )
    min_effect: float = field(
        default=0.02,
        metadata={
            "doc": "scale of the reach: a passage whose tokens changed latents move by this share of the base's typical"
            " deviation from its mean counts as 63% reached"
        },
    )
    min_reach: float = field(
        default=0.125,
        metadata={
            "doc": "share of a category's text that must be reached for the category to count as changed"
        },
    )
    nll_margin: float = field(
        default=0.05,
        metadata={
            "doc": "nats a token: a smaller change of NLL on a category's text is no change of behaviour"
        },
    )
    kl_margin: float = field(
        default=0.18,
        metadata={
            "doc": "nats a token: no all-clear where the mean KL of the predictions is larger; what a tune on unrelated"
            " text gives (docs/method.md), unless `mneme null RUN --benign OTHER` has measured one"
        },
    )
    level: float = field(default=0.95, metadata={"doc": "coverage of the intervals, a share in (0, 1)"})
    replicates: int = field(
        default=500, metadata={"doc": "bootstrap replicates, over documents or categories"}
    )
    top_latents: int = field(default=20, metadata={"doc": "latents listed for each category"})
    seed: int = field(default=0, metadata={"doc": "of the bootstraps and of the random-latents baseline"})

    def __post_init__(self) -> None:
        for name in ("window", "replicates", "top_latents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("temperature", "min_effect", "nll_margin", "kl_margin"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("min_weight", "label_weight", "min_reach"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {getattr(self, name)}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, not {self.level}")
