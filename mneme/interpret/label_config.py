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
    model: str | None = field(
        default=None,
        metadata={"doc": "name of the server's model; by default OPENAI_MODEL in the environment"},
    )
    local: str | None = field(
        default=None,
        metadata={
            "doc": "explain by a causal language model in this process instead: a folder, a hub id or"
            " bundled:base"
        },
    )
    compare: tuple[str, ...] = field(
        default=(),
        metadata={
            "doc": "explainers that label the same latents and are compared: names of the server's models,"
            " local:FOLDER, offline"
        },
    )
    prompt_contexts: int = field(
        default=40, metadata={"doc": "most contexts shown of a latent: half of them the strongest"}
    )
    prices: tuple[str, ...] = field(
        default=(),
        metadata={
            "doc": "money for a million prompt and reply tokens: 'IN,OUT', or 'MODEL=IN,OUT' for one model"
        },
    )
    max_cost: float | None = field(
        default=None, metadata={"doc": "budget: money the server may be asked for; needs prices"}
    )
    llm_max_latents: int = field(
        default=200, metadata={"doc": "most latents the server labels: changed ones, most severe first"}
    )
    llm_unchanged: bool = field(
        default=False, metadata={"doc": "after the changed latents the other live ones are labelled too"}
    )
    llm_max_tokens: int = field(
        default=1_000_000, metadata={"doc": "budget: tokens (prompt and reply) the server may be asked for"}
    )
    llm_concurrency: int = field(default=4, metadata={"doc": "requests in flight at once"})
    llm_timeout: float = field(default=60.0, metadata={"doc": "seconds to wait for one reply"})

    llm_score: bool = field(
        default=False,
        metadata={
            "doc": "the first explainer also judges the labels of the latents it labels: about as many tokens again,"
            " under a budget of the same size"
        },
    )

    def __post_init__(self) -> None:
        if self.llm_concurrency < 1:
            raise ValueError("llm_concurrency must be at least 1")
        if self.prompt_contexts < 2:
            raise ValueError("prompt_contexts must be at least 2")
        if len(set(self.compare)) < len(self.compare) or len(self.compare) == 1:
            raise ValueError("compare takes two or more different explainers, for example A,offline")
        for text in self.prices:
            read_price(text)
        if self.max_cost is not None and not self.prices:
            raise ValueError("max_cost needs prices: give them as IN,OUT for a million tokens")

    def price_of(self, model: str) -> tuple[float, float] | None:
        """Money for a million prompt and reply tokens of a model of the server; None where it isn't known."""
        known = dict(read_price(text) for text in self.prices)
        return known.get(model, known.get(""))


def read_price(text: str) -> tuple[str, tuple[float, float]]:
    """'MODEL=IN,OUT' or 'IN,OUT' -> (model or '', (in, out)). Raises ValueError."""
    model, _, numbers = text.rpartition("=")
    try:
        prompt, reply = (float(number) for number in numbers.split(","))
    except ValueError:
        prompt = reply = -1
    if not (0 <= prompt < float("inf") and 0 <= reply < float("inf")):
        raise ValueError(f"price {text!r} must be IN,OUT or MODEL=IN,OUT, for example 0.15,0.60")
    return model, (prompt, reply)
