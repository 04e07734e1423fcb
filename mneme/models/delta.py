"""Models that differ in a few tensors share the others, so that a pair costs little more than one model.

A delta folder holds `delta.safetensors` (the tensors that replace the base's, by their names in the base's
state dict) and `recipe.toml` (how they were made; `base` names the model they belong to).
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from mneme.errors import ModelError


def sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A second model over the same parameter tensors: replace its parameters, never change them in place."""
    held = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, held)


def apply_delta(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base` with the tensors of `folder`/delta.safetensors in place of its own; the others are shared.

    Raises ModelError for a damaged file, or tensors that are not the base's.
    """
    file = folder / "delta.safetensors"
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged: get it again") from error
    tuned = sharing_copy(base)
    parameters = dict(base.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise ModelError(
                f"{file} doesn't fit its base, which has no {name} {tuple(tensor.shape)}:"
                " check `base` in recipe.toml"
            )
        like = parameters[name]
        _replace(tuned, name, nn.Parameter(tensor.to(like.device, like.dtype), requires_grad=False))
    return tuned


def share_equal_parameters(base: PreTrainedModel, tuned: PreTrainedModel) -> list[str]:
    """Give `tuned` the base's tensor wherever the two are equal; the names of those that differ."""
    changed = []
    of_base = dict(base.named_parameters(remove_duplicate=False))
    for name, mine in list(tuned.named_parameters(remove_duplicate=False)):
        theirs = of_base.get(name)
        if theirs is mine:
            continue
        if theirs is not None and theirs.dtype == mine.dtype and torch.equal(theirs, mine.to(theirs.device)):
            _replace(tuned, name, theirs)
        else:
            changed.append(name)
    return changed


def _replace(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put `parameter` at `name`, in every module that is tied to the tensor there."""
    owner, _, leaf = name.rpartition(".")
    old = getattr(model.get_submodule(owner), leaf)
    for module in model.modules():
        for key, value in module._parameters.items():
            if value is old:
                module._parameters[key] = parameter
