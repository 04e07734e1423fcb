"""Settings of the labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mneme._util.settings import Amount, Count, NotNegative, Text, Texts, Tokens, section

PromptContexts = Annotated[int, Field(ge=2, le=10_000)]
Concurrency = Annotated[int, Field(ge=1, le=1024)]
ReplyTokens = Annotated[int, Field(ge=1, le=1_000_000)]
Timeout = Annotated[float, Field(gt=0, le=86_400)]


@section("labels")
class LabelConfig:
    """How latents are labelled, and how their labels are scored."""

    score_labels: bool = Field(
        default=True, description="score each label on held-out contexts with the sentence encoder"
    )
    score_windows: Count = Field(
        default=6000, description="most pieces of text the sentence encoder reads for the scores"
    )
    llm: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="labels by a language model behind an OpenAI-compatible server; auto: when OPENAI_MODEL"
        " and one of OPENAI_BASE_URL and OPENAI_API_KEY are set in the environment",
    )
    model: Text | None = Field(
        default=None,
        description="name of the server's model; by default OPENAI_MODEL in the environment",
    )
    local: Text | None = Field(
        default=None,
        description="explain by a causal language model in this process instead: a folder, a hub id or"
        " bundled:base",
    )
    compare: Texts = Field(
        default=(),
        description="explainers that label the same latents and are compared: names of the server's models,"
        " local:FOLDER, offline",
    )
    prompt_contexts: PromptContexts = Field(
        default=40, description="most contexts shown of a latent: half of them the strongest"
    )
    prices: Texts = Field(
        default=(),
        description="money for a million prompt and reply tokens: 'IN,OUT', or 'MODEL=IN,OUT' for one model",
    )
    max_cost: NotNegative | None = Field(
        default=None, description="budget: money the server may be asked for; needs prices"
    )
    llm_max_latents: Amount = Field(
        default=200, description="most latents the server labels: changed ones, most severe first"
    )
    llm_unchanged: bool = Field(
        default=False, description="after the changed latents the other live ones are labelled too"
    )
    llm_max_tokens: Tokens = Field(
        default=1_000_000, description="budget: tokens (prompt and reply) the server may be asked for"
    )
    llm_concurrency: Concurrency = Field(default=4, description="requests in flight at once")
    llm_timeout: Timeout = Field(
        default=60.0, description="seconds to wait for one reply, from its request to its end"
    )
    max_tokens: ReplyTokens = Field(
        default=300,
        description="longest reply of a labelling model, in tokens; a model that reasons first needs thousands",
    )

    llm_score: bool = Field(
        default=False,
        description="the first explainer also judges the labels of the latents it labels: about as many tokens again,"
        " under a budget of the same size",
    )

    def __post_init__(self) -> None:
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
