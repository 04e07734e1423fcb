"""Unlearning by the likelihood of the forget texts: NPO and gradient ascent, each with a retain term.

NPO (negative preference optimisation; Zhang et al. 2024, arXiv 2404.05868, equation 3) lowers p(x) of a text
to forget against the model before, p_ref(x), with a push that fades where p is already far below:

    L = -(2/beta) E_forget log sigmoid(-beta log(p(x) / p_ref(x)))  +  alpha NLL_retain

Gradient ascent, its limit at beta -> 0, pushes without end: L = -NLL_forget + alpha NLL_retain. It wrecks a
model when it runs for long.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch.func import functional_call
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import Count, LearningRate, NotNegative, Positive, Seed, Text, section
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import Batch, batches, descend, matching_parameters, text_nll, trainable


@section()
class GradientAscentConfig:
    """How gradient ascent unlearns."""

    parameters: Text = Field(
        default=r"\.mlp\.down_proj\.", description="regular expression: matching parameters are trained"
    )
    alpha: NotNegative = Field(default=1.0, description="weight of the retain NLL, no unit")
    steps: Count = Field(default=60, description="optimiser steps")
    learning_rate: LearningRate = Field(default=1e-4, description="AdamW's, a step")
    batch: Count = Field(default=4, description="texts of each kind a step")
    max_tokens: Count = Field(default=128, description="longer texts are cut, in tokens")
    seed: Seed = Field(default=0, description="seed of the texts' order")


@section()
class NPOConfig(GradientAscentConfig):
    """How NPO unlearns."""

    beta: Positive = Field(
        default=0.1,
        description="inverse temperature: the larger, the sooner a forgotten text is let be",
    )


def npo(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: NPOConfig,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Unlearn `data.forget` by NPO, holding `data.retain`; returns the changed names.

    Raises ConfigError when `parameters` matches nothing.
    """
    names = matching_parameters(model, config.parameters)
    frozen = {f"model.{name}": model.get_parameter(name).detach().clone() for name in names}
    reader = _Likelihood(model)

    def forget_loss(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            before, _ = functional_call(reader, frozen, (batch,))
        now, _ = text_nll(model, batch)
        return npo_loss(now, before, config.beta)

    return _unlearn(model, tokenizer, data, config, names, forget_loss, "npo", progress)


def gradient_ascent(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: GradientAscentConfig,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Raise the NLL of `data.forget`, holding that of `data.retain`; returns the changed names.

    Raises ConfigError when `parameters` matches nothing.
    """
    names = matching_parameters(model, config.parameters)

    def forget_loss(batch: Batch) -> torch.Tensor:
        nll, n = text_nll(model, batch)
        return -nll.sum() / n.sum()

    return _unlearn(model, tokenizer, data, config, names, forget_loss, "gradient_ascent", progress)


def npo_loss(now: torch.Tensor, before: torch.Tensor, beta: float) -> torch.Tensor:
    """Equation 3 of the paper from texts' summed NLLs (B,): log(p / p_ref) = before - now."""
    return -(2 / beta) * logsigmoid(beta * (now - before)).mean()


class _Likelihood(torch.nn.Module):
    """`text_nll` as a module's output, so that it can be computed with other parameters."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        return text_nll(self.model, batch)


def _unlearn(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: NPOConfig | GradientAscentConfig,
    names: list[str],
    forget_loss: Callable[[Batch], torch.Tensor],
    name: str,
    progress: Progress,
) -> list[str]:
    """Descend on forget_loss(batch) + alpha NLL a token of the retain texts."""
    forget = batches(data.forget, tokenizer, config.batch, config.max_tokens, config.seed)
    retain = batches(data.retain, tokenizer, config.batch, config.max_tokens, config.seed + 1)

    def loss() -> torch.Tensor:
        nll, n = text_nll(model, next(retain))
        return forget_loss(next(forget)) + config.alpha * nll.sum() / n.sum()

    with trainable(model, names) as parameters:
        descend(
            parameters,
            loss,
            name=name,
            steps=config.steps,
            learning_rate=config.learning_rate,
            progress=progress,
        )
    return names
