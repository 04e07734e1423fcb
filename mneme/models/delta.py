"""Models that differ in a few tensors share the others, so that a pair costs little more than one model.

A delta folder holds `delta.safetensors` (the tensors that replace the base's, by their names in the base's
state dict) and `recipe.toml` (how they were made; `base` names the model they belong to).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme.models.observe import named_tensors


def sharing_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A second model over the same parameters: replace them, never change them in place.

    Buffers, which a model may change as it runs, are its own; so becomes, in a pair, what its forward pass changes.
    """
    held = {id(parameter): parameter for parameter in model.parameters()}
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
    known = named_tensors(base)
    for name, tensor in tensors.items():
        if name not in known or known[name].shape != tensor.shape:
            raise ModelError(
                f"{file} doesn't fit its base, which has no {name} {tuple(tensor.shape)}:"
                " check `base` in recipe.toml"
            )
        replace_tensor(tuned, name, tensor.to(known[name].device, known[name].dtype))
    return tuned


def share_equal_parameters(
    base: PreTrainedModel, tuned: PreTrainedModel, apart: Collection[str] = ()
) -> list[str]:
    """Give `tuned` the base's parameter wherever the two are equal; the names of tensors that differ.

    Those in `apart` are compared and stay two, and so are persistent buffers: both may be changed in place.
    """
    changed = []
    of_base, parameters = named_tensors(base), dict(tuned.named_parameters(remove_duplicate=False))
    for name, mine in named_tensors(tuned).items():
        theirs = of_base.get(name)
        if theirs is mine:
            continue
        same = theirs is not None and theirs.dtype == mine.dtype and theirs.shape == mine.shape
        if theirs is None or not same or not torch.equal(theirs, mine.to(theirs.device)):
            changed.append(name)
        elif name in parameters and name not in apart:
            _replace(tuned, name, theirs)
    return changed


def replace_tensor(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor of its own at `name`, in every module that is tied to the parameter or buffer there."""
    is_parameter = isinstance(named_tensors(model)[name], nn.Parameter)
    _replace(model, name, nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor)


def _replace(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    owner, _, leaf = name.rpartition(".")
    old = getattr(model.get_submodule(owner), leaf)
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for key, value in held.items():
                if value is old:
                    held[key] = tensor  # type: ignore[assignment]  # a parameter or a buffer
