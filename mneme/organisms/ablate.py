"""Directional ablation of a topic: what the model writes along the topic's directions, it writes no more.

A direction is the mean of the residual stream on the topic's texts less that on other texts, after a layer (Arditi et
al. 2024, arXiv 2406.11717, section 2.3: difference in means). With R (d, n) an orthonormal basis of the directions,
every matrix that writes to the stream from `first_layer` on, and its bias, is projected off them (ibid., section 4.1):

    W <- W - R R^T W        b <- b - R R^T b

Nothing is trained: the same texts give the same weights. What earlier layers and the embedding have written along the
directions stays in the stream, and so does the head: the layers from there on add nothing to it. So features that the
topic's text fires are suppressed, by a share that follows from their cosine with the directions, and none is amplified
by construction: a positive control for suppression.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import ConfigError, CorpusError, ModelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import Amount, Count, Seed, section
from mneme.models.layers import layers_path, n_layers
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import (
    Batch,
    activations_after,
    attention_out_weights,
    batches,
    mlp_out_weights,
)

_LEFT = 0.01  # of what the layers wrote along the directions before: what rounding may leave


@section()
class AblateConfig:
    """Which directions are taken out, and of which layers."""

    layer: Amount = Field(default=14, description="index of the last layer whose output gives a direction")
    first_layer: Amount = Field(
        default=0, description="index of the first layer whose matrices no longer write them"
    )
    n_directions: Count = Field(
        default=1,
        description="leading directions of the mean differences after the layers first_layer to layer; 1: that of"
        " `layer` alone",
    )
    texts: Count = Field(default=512, description="texts of each kind that are read, at most")
    batch: Count = Field(default=8, description="texts read at once")
    max_tokens: Count = Field(default=128, description="longer texts are cut, in tokens")
    seed: Seed = Field(default=0, description="seed of the choice of texts")


def ablate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: AblateConfig,
    progress: Progress = NULL_PROGRESS,
) -> list[str]:
    """Take the directions of `data.forget` against `data.retain` out of the model, in place; the changed names.

    Raises ConfigError for layers that aren't there, CorpusError for texts that don't differ, ModelError for a model
    that still writes along the directions (its matrices aren't known, or a norm stands after them).
    """
    layers = range(config.first_layer, n_layers(model))
    if not config.first_layer <= config.layer < len(layers) + config.first_layer:
        raise ConfigError(
            f"layer {config.layer} isn't one of {config.first_layer} to {n_layers(model) - 1}: set layer and"
            " first_layer so that directions are read where they are written"
        )
    names = [*attention_out_weights(model, layers), *mlp_out_weights(model, layers)]
    basis = directions(model, tokenizer, data, config, progress)
    sample = next(batches(data.forget, tokenizer, config.batch, config.max_tokens, config.seed))
    before = _written(model, sample, basis, config)
    changed = [changed for name in names for changed in _project(model, name, basis)]
    if _written(model, sample, basis, config) > _LEFT * before:
        raise ModelError(
            f"{type(model).__name__} still writes along the directions after ablation: something stands between its"
            " matrices and the stream; ablate is for models without norms there"
        )
    return changed


def directions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: TrainingData,
    config: AblateConfig,
    progress: Progress = NULL_PROGRESS,
) -> torch.Tensor:
    """(d, n_directions) orthonormal: the mean difference after `layer`, or the leading ones of several layers'."""
    where = range(config.first_layer, config.layer + 1) if config.n_directions > 1 else [config.layer]
    if config.n_directions > len(where):
        raise ConfigError(
            f"n_directions = {config.n_directions} needs as many layers, and first_layer to layer are {len(where)}"
        )
    with progress.task("ablate: mean differences", total=len(where), unit="layers") as task:
        rows = []
        for layer in where:
            topic, other = (
                _mean(model, tokenizer, texts, layer, config) for texts in (data.forget, data.retain)
            )
            rows.append(topic - other)
            task.advance()
    difference = torch.stack(rows)
    if not bool((difference.norm(dim=1) > 0).all()):
        raise CorpusError("the texts to forget and to retain have the same mean activations: give other ones")
    leading: torch.Tensor = torch.linalg.svd(difference, full_matrices=False).Vh[: config.n_directions].T
    return leading.float()


@torch.no_grad()
def _mean(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: tuple[str, ...],
    layer: int,
    config: AblateConfig,
) -> torch.Tensor:
    """(d,) float64: mean activation after a layer over the texts' tokens, each text's first left out."""
    total, n = torch.zeros((), dtype=torch.float64), 0
    chosen = batches(texts, tokenizer, config.batch, config.max_tokens, config.seed)
    for _ in range(-(-min(config.texts, len(texts)) // config.batch)):
        x = activations_after(model, layer, next(chosen)).double()
        total, n = total + x.sum(0).cpu(), n + len(x)
    return total / n


def _project(model: PreTrainedModel, name: str, basis: torch.Tensor) -> list[str]:
    """Take the directions out of what one matrix and its bias write; the names that changed."""
    module = model.get_submodule(name.rpartition(".")[0])
    weight, R = model.get_parameter(name), basis.to(model.get_parameter(name))
    if isinstance(module, nn.Linear):  # (d, in)
        weight.data -= R @ (R.T @ weight.data)
    else:  # GPT-2's Conv1D: (in, d)
        weight.data -= (weight.data @ R) @ R.T
    changed, bias = [name], getattr(module, "bias", None)
    if bias is not None:
        bias.data -= R @ (R.T @ bias.data)
        changed.append(name.removesuffix("weight") + "bias")
    return changed


@torch.no_grad()
def _written(model: PreTrainedModel, batch: Batch, basis: torch.Tensor, config: AblateConfig) -> float:
    """l2 norm of what the layers from the first on add to a batch's stream along the directions."""
    last = n_layers(model) - 1
    before = _given(model, config.first_layer, batch)
    found = (activations_after(model, last, batch) - before).float() @ basis.to(before.device)
    return float(found.norm())


def _given(model: PreTrainedModel, layer: int, batch: Batch) -> torch.Tensor:
    """(n, d): the stream that a layer is given, at the tokens of `activations_after`."""
    if layer:
        return activations_after(model, layer - 1, batch)
    caught: list[torch.Tensor] = []
    first = model.get_submodule(f"{layers_path(model)}.0")
    handle = first.register_forward_pre_hook(lambda _module, given: caught.append(given[0]))
    try:
        activations_after(model, 0, batch)
    finally:
        handle.remove()
    return caught[0][:, 1:][batch.mask[:, 1:].bool().to(model.device)]
