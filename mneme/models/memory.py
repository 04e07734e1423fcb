"""Models that a program holds: a transformers model or a PEFT model, compared without being changed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import ModelError, first_line
from mneme.models.adapter import NAMED_ERRORS
from mneme.models.pair import ModelPair, load_pair, pair_models
from mneme.models.quiet import quiet_transformers
from mneme.models.sources import MEMORY

Model = str | nn.Module


def pair(
    base: Any,
    tuned: Any,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
) -> ModelPair:
    """The pair of two models: names of models (see `mneme.diff`), or transformers or PEFT models in memory.

    base, tuned: both names, or both models. A PEFT model's adapter is merged into a copy. Where `base` is the model
    that `get_peft_model` put the adapter of `tuned` into, the adapter is taken out of a copy of it. tokenizer: of
    models in memory. `dtype`, `device`, `trust_remote_code`: of names only; models in memory are read as and where
    they are.

    The models are not changed: parameters are shared with the copies that are read, and must stay what they are until
    the pair is no longer used. Raises ModelError or PairError, naming the fix.
    """
    if isinstance(base, str) and isinstance(tuned, str):
        return load_pair(base, tuned, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    for given in (base, tuned):
        if not isinstance(given, nn.Module):
            raise ModelError(
                f"give two names of models or two loaded models, not {type(base).__name__} and {type(tuned).__name__}"
            )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            "models in memory need their tokenizer: give tokenizer=AutoTokenizer.from_pretrained(...)"
        )
    names = _names(base, tuned)
    models = [_plain(base, names[0]), _plain(tuned, names[1])]
    for model, name in zip(models, names, strict=True):
        if not isinstance(model, PreTrainedModel):
            raise ModelError(f"{name} is a {type(model).__name__}: give a transformers or PEFT model")
    return pair_models(models[0], models[1], copy.deepcopy(tokenizer), base_id=names[0], tuned_id=names[1])


def _plain(model: nn.Module, name: str) -> Any:
    """A frozen copy in eval mode that shares the parameters: with the adapter merged in, or taken out of it."""
    while hasattr(model, "_orig_mod"):
        model = model._orig_mod  # type: ignore[assignment]  # torch.compile's
    held = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    try:
        with quiet_transformers():
            return _copied(model, held)
    except NAMED_ERRORS as error:
        raise ModelError(
            f"{name} can't be read from memory ({first_line(error)}): save it and give its folder"
        ) from error


def _copied(model: nn.Module, held: dict[int, nn.Parameter]) -> Any:
    """held: what the copy has in place of each parameter, by its id."""
    if not (_is_adapter(model) or _has_tuner_layers(model)):
        return copy.deepcopy(model, held).eval()
    # Merging changes weights in place: this copy has its own.
    own: Any = copy.deepcopy(model).requires_grad_(False).eval()
    if not _is_adapter(own):
        return _without_tuner_layers(own)
    with torch.no_grad():
        return own.merge_and_unload()


def _is_adapter(model: nn.Module) -> bool:
    return hasattr(model, "merge_and_unload") and hasattr(model, "peft_config")


def _has_tuner_layers(model: nn.Module) -> bool:
    """Whether PEFT put layers of its own into the model."""
    return any(hasattr(module, "base_layer") and hasattr(module, "merge") for module in model.modules())


def _without_tuner_layers(model: nn.Module) -> nn.Module:
    """The model as it was before `get_peft_model` put an adapter into it."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "base_layer") and hasattr(module, "merge"):
            owner, _, leaf = name.rpartition(".")
            inner = module.get_base_layer() if hasattr(module, "get_base_layer") else module.base_layer
            setattr(model.get_submodule(owner), leaf, inner)
    return model


def _names(base: nn.Module, tuned: nn.Module) -> tuple[str, str]:
    """'memory:org/model' by the name a model was loaded from, else by its class; unlike each other."""
    found = [
        MEMORY + (str(getattr(_config(m), "_name_or_path", "") or "") or type(m).__name__)
        for m in (base, tuned)
    ]
    return found[0], found[1] if found[1] != found[0] else f"{found[1]} (tuned)"


def _config(model: nn.Module) -> Any:
    return getattr(model, "config", None)
