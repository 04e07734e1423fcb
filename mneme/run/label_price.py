"""What labelling a run would ask of a model and cost, from the run's tables; no torch, no request."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mneme._util.errors import LabelError
from mneme.interpret.clients.asking import ATTEMPTS, estimated_tokens
from mneme.interpret.clients.base import method_of
from mneme.interpret.clients.factory import identity
from mneme.interpret.clients.response_cache import Prompt, ResponseCache
from mneme.interpret.explainers.names import budget_of, explainer_names, most_changed
from mneme.interpret.explainers.prompt import make_prompts, read_explanation
from mneme.interpret.label_config import LabelConfig
from mneme.store.queries.meaning import promoted_tokens, training_contexts, verdicts
from mneme.store.run import Run


class Price(NamedTuple):
    """Of one explainer."""

    method: str
    latents: int
    """Latents it would label."""
    calls: int
    """Requests that are not answered yet."""
    prompt_tokens: int
    """Of those requests, at about three characters a token."""
    reply_tokens: int
    """The most they may be answered with."""
    money: float | None
    """The most it may cost; None: no price is known."""


def questions(run: Run, config: LabelConfig) -> dict[int, Prompt]:
    """What a model would be asked: live changed latents, most severe first."""
    chosen = most_changed(verdicts(run), config.llm_max_latents, unchanged=config.llm_unchanged).tolist()
    return make_prompts(
        chosen, training_contexts(run, chosen), promoted_tokens(run, chosen), examples=config.prompt_contexts
    )


def prices(run: Run, config: LabelConfig) -> list[Price]:
    """What each explainer of the settings would cost. Raises LabelError where one is demanded and none is named."""
    names = explainer_names(config)
    prompts = questions(run, config) if names else {}
    return [_price(name, prompts, run.path / "labels", config) for name in names]


def price(run: Run, config: LabelConfig, name: str | None) -> Price:
    """What one explainer would cost; None: any server's model, of which no reply is kept."""
    return _price(name, questions(run, config), run.path / "labels", config)


def _price(name: str | None, prompts: dict[int, Prompt], folder: Path, config: LabelConfig) -> Price:
    left = list(prompts.values())
    if name is not None:
        responses, whose = ResponseCache(folder), identity(name, reply_tokens=config.max_tokens)
        left = [prompt for prompt in left if not _kept(responses, prompt.key(whose))]
    tokens = sum(map(estimated_tokens, left)), config.max_tokens * len(left)
    prices = budget_of(name or "", config).prices
    return Price(
        method_of(name or "a model"),
        len(prompts),
        len(left),
        *tokens,
        prices.cost(*tokens) if prices is not None else None,
    )


def _kept(responses: ResponseCache, key: str) -> bool:
    """Whether asking costs nothing: there is a good reply, or too many bad ones."""
    found = responses.get(key)
    if found is None or found.attempts >= ATTEMPTS:
        return found is not None
    try:
        read_explanation(found.reply)
    except LabelError:
        return False
    return not found.refused
