"""RMU: representation misdirection for unlearning (Li et al. 2024, arXiv 2403.03218, section 4).

On texts to forget, the residual stream after one layer is steered to a fixed random direction u, so that the
layers above can no longer read it; on texts to retain it is held where the frozen model has it:

    L = E_forget || h(t) - c u ||^2 / d  +  alpha E_retain || h(t) - h_frozen(t) ||^2 / d

Only the MLP output projections of that layer and the two before it are updated. Two differences from
the paper: c is a multiple of the mean norm of the forget texts' activations, since that norm differs between
models by orders of magnitude; and each text's first token is left out (see `activations_after`).
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch.func import functional_call
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import Amount, Count, LearningRate, NotNegative, Seed, section
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import Batch, activations_after, batches, descend, mlp_out_weights, trainable


@section()
class RMUConfig:
    """How RMU unlearns."""

    layer: Amount = Field(default=7, description="index of the layer whose output is steered")
    n_layers: Count = Field(default=3, description="layers updated: the steered one and those just before it")
    steering: NotNegative = Field(
        default=2.0, description="c, in units of the mean activation norm of the forget texts"
    )
    alpha: NotNegative = Field(default=100.0, description="weight of the retain loss, no unit")
    steps: Count = Field(default=120, description="optimiser steps")
    learning_rate: LearningRate = Field(default=7e-4, description="AdamW's, a step")
    batch: Count = Field(default=4, description="texts of each kind a step")
    max_tokens: Count = Field(default=128, description="longer texts are cut, in tokens")
    seed: Seed = Field(default=0, description="seed of u and of the texts' order")


def rmu(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: RMUConfig,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Unlearn `data.forget`, holding `data.retain`; changes the model in place, returns the changed names.

    Raises ConfigError for a layer that isn't there, ModelError for a model whose MLP isn't known.
    """
    first = max(config.layer - config.n_layers + 1, 0)
    names = mlp_out_weights(model, range(first, config.layer + 1))
    frozen = {name: model.get_parameter(name).detach().clone() for name in names}
    forget = batches(data.forget, tokenizer, config.batch, config.max_tokens, config.seed)
    retain = batches(data.retain, tokenizer, config.batch, config.max_tokens, config.seed + 1)
    target = _target(model, next(forget), config)

    def loss() -> torch.Tensor:
        steered = activations_after(model, config.layer, next(forget))
        batch = next(retain)
        held = activations_after(model, config.layer, batch)
        with torch.no_grad():
            before = functional_call(_Reader(model, config.layer), _inside_reader(frozen), (batch,))
        return rmu_loss(steered, target, held, before, config.alpha)

    with trainable(model, names) as parameters:
        descend(
            parameters,
            loss,
            name="rmu",
            steps=config.steps,
            learning_rate=config.learning_rate,
            progress=progress,
        )
    return names


def rmu_loss(
    steered: torch.Tensor, target: torch.Tensor, held: torch.Tensor, before: torch.Tensor, alpha: float
) -> torch.Tensor:
    """Equation 3 of the paper: steered (n, d) against target (d,), held (m, d) against before (m, d)."""
    forget = (steered.float() - target).square().mean()
    retain = (held.float() - before.float()).square().mean()
    return forget + alpha * retain


class _Reader(torch.nn.Module):
    """The activations as a module's output, so that they can be computed with other parameters."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, batch: Batch) -> torch.Tensor:
        return activations_after(self.model, self.layer, batch)


def _inside_reader(frozen: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters by their names inside `_Reader`."""
    return {f"model.{name}": tensor for name, tensor in frozen.items()}


@torch.no_grad()
def _target(model: PreTrainedModel, sample: Batch, config: RMUConfig) -> torch.Tensor:
    """c u (d,): u uniform on [0, 1)^d scaled to length one, as in the paper; c from a batch's mean norm."""
    norm = activations_after(model, config.layer, sample).float().norm(dim=-1).mean()
    u = torch.rand(
        model.config.get_text_config().hidden_size, generator=torch.Generator().manual_seed(config.seed)
    )
    found: torch.Tensor = config.steering * norm * (u / u.norm()).to(norm.device)
    return found
