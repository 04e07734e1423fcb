"""Find the layers of any decoder that transformers loads, and the residual stream in what a layer returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mneme.errors import ModelError


def n_layers(model: nn.Module) -> int:
    """How many decoder layers the model's config announces."""
    config = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
    return int(config.num_hidden_layers)


def width(model: nn.Module) -> int:
    """d: the residual stream's width."""
    config = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
    return int(config.hidden_size)


def most_positions(model: nn.Module) -> int | None:
    """The longest text the model's position embeddings reach over, None where they have no end."""
    config = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]
    return getattr(config, "max_position_embeddings", None)


def layers_path(model: nn.Module) -> str:
    """The dotted path of the layer list: the largest ModuleList as long as the config's layer count.

    model.layers for Llama, Qwen, Gemma; transformer.h for GPT-2; gpt_neox.layers for Pythia; ...

    Raises ModelError when there is no such list.
    """
    count = n_layers(model)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    # A mixture's experts, or a layer's own parts, may be as many as the layers: those lie inside a layer.
    outer = [name for name, _ in found if not any(name.startswith(other + ".") for other, _ in found)]
    if len(outer) > 1:
        # Beside the layers proper there may be lists of small helpers: the layers hold the weights.
        sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in outer}
        outer = sorted(outer, key=sizes.__getitem__, reverse=True)[:1]
    if not outer:
        raise ModelError(
            f"{type(model).__name__} has no list of {count} layers to read: mneme reads decoder-only models"
            " of transformers"
        )
    return outer[0]


def layer_of_parameter(name: str, path: str) -> int | None:
    """The layer a parameter belongs to, None for one outside the layers (embeddings, final norm, head)."""
    if not name.startswith(path + "."):
        return None
    return int(name[len(path) + 1 :].split(".", 1)[0])


def residual(output: Any) -> torch.Tensor:
    """The residual stream (batch, tokens, d) in a layer's output: the output itself, or a tuple's first."""
    return output[0] if isinstance(output, tuple) else output
