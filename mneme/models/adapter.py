"""A PEFT adapter merged into its base, and held against the same adapter unmerged.

PEFT drops what doesn't fit with a warning, and merges in place: an adapter of an end of tied embeddings would change
the other end too. So every tensor of the adapter's file must find its place, tied ends are parted before the merge,
and the merged model must predict what the unmerged one does.
"""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from mneme._util.errors import ModelError, first_line
from mneme.models.quiet import quiet_transformers
from mneme.models.sources import ADAPTER_WEIGHTS, Source
from mneme.models.text import some_ids

NAMED_ERRORS = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError)
_ERRORS_OF_FILES = (
    *NAMED_ERRORS,
    SafetensorError,
    ImportError,
    pickle.UnpicklingError,
    ArithmeticError,
    MemoryError,
)
# Of the spread of the logits. A merge in bfloat16 rounds each weight, the unmerged adapter none.
_TOLERANCE = {torch.float32: 1e-3}
_COARSE = 0.05
# Vectors that all layers share are in the file once; PEFT's own list of them.
_SHARED = ("vblora_vector_bank", ".tinylora_v.", ".unilora_theta_d.")


def check_adapter(source: Source) -> None:
    """Refuse what can't be merged by its config alone, before its base is loaded.

    Raises ModelError where PEFT isn't installed or doesn't know the kind, and for kinds that are no change of weights.
    """
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        from peft.utils import PeftType
    except ImportError as error:
        raise ModelError(f"{source.spec} is a PEFT adapter: pip install 'mneme-diff[peft]'") from error
    kind = _config(source.folder).get("peft_type")
    known = {each.value: each for each in PeftType}
    if kind not in known or known[kind] not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ModelError(
            f"{source.spec} is an adapter of the kind {kind}, which the installed peft doesn't know: update peft"
        )
    if not hasattr(PEFT_TYPE_TO_TUNER_MAPPING[known[kind]], "merge_and_unload"):
        raise ModelError(
            f"{source.spec} is an adapter of the kind {kind}, which cannot be merged (it is no change of weights):"
            " give a LoRA or another kind that merges, or the tuned weights"
        )


@torch.no_grad()
def merge_adapter(base: PreTrainedModel, source: Source) -> PreTrainedModel:
    """A copy of `base` with the adapter merged in, frozen, in eval mode.

    Raises ModelError when a tensor of the adapter finds no place or one is missing, when shapes differ, when the
    merge changes nothing, or when the merged model predicts something else than the unmerged one.
    """
    from peft import PeftModel

    ids = some_ids(base)
    try:
        with quiet_transformers(), warnings.catch_warnings():
            # What PEFT warns of (keys without a place, tied ends) is checked here, or mended.
            warnings.simplefilter("ignore")
            # PEFT changes the model it is given.
            ground = _resized(copy.deepcopy(base), source.folder)
            adapted = PeftModel.from_pretrained(ground, source.folder).eval()
            loaded = adapted.load_adapter(str(source.folder), "default")
            _check_keys(source, loaded.missing_keys, loaded.unexpected_keys)
            _part_tied_ends(adapted)
            expected = adapted(input_ids=ids, use_cache=False).logits.float()
            merged: PreTrainedModel = adapted.merge_and_unload().requires_grad_(False).eval()
            found = merged(input_ids=ids, use_cache=False).logits.float()
    except _ERRORS_OF_FILES as error:
        raise ModelError(
            f"the adapter {source.spec} can't be merged ({first_line(error)}): check that it was made for its base"
        ) from error
    _tell_parted(merged)
    if not _changed(base, merged):
        raise ModelError(
            f"the adapter {source.spec} changes no weight of its base: it is untrained, or was made for another model"
        )
    off = float((found - expected).abs().max() / expected.std().clamp(min=1e-12))
    if not off <= _TOLERANCE.get(base.dtype, _COARSE):
        raise ModelError(
            f"the adapter {source.spec} can't be merged exactly: the merged model's logits are off by {off:.2g} of"
            " their spread; give the tuned weights, or harvest.dtype=float32"
        )
    return merged


def _config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, which `resolve` has looked at."""
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return found


def _check_keys(source: Source, missing: list[str], unexpected: list[str]) -> None:
    """Every tensor of the file has its place, and every place its tensor."""
    missing = [key for key in missing if not any(part in key for part in _SHARED)]
    if missing or unexpected:
        told = [
            f"{len(keys)} of its tensors {what} (first {sorted(keys)[0]})"
            for keys, what in ((unexpected, "have no place in the base"), (missing, "are missing"))
            if keys
        ]
        raise ModelError(
            f"the adapter {source.spec} doesn't fit its base: {', '.join(told)}; check that it was made for this"
            " model class, and that its file is whole"
        )


def _resized(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with as many embeddings as the adapter's file has: tunes add tokens."""
    rows = {
        shape[1 if "lora_embedding_A" in name else 0]
        for name, shape in _shapes(folder).items()
        if _is_embedding(name) and len(shape) == 2
    }
    embeddings: Any = model.get_input_embeddings()
    now = int(embeddings.weight.shape[0])
    if len(rows) == 1 and rows != {now}:
        model.resize_token_embeddings(rows.pop(), mean_resizing=False)
    return model


def _is_embedding(name: str) -> bool:
    """Whether a tensor has a row (or column) for every token."""
    parts = name.split(".")
    if not {"embed_tokens", "lm_head", "wte", "embed_in", "embed_out", "word_embeddings"} & set(parts):
        return False
    if parts[-1] == "lora_embedding_A":
        return True
    return parts[-1] == "weight" and not any(part.startswith(("lora_", "token_adapter")) for part in parts)


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Of the tensors in the adapter's file."""
    file = next(folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file())
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            return {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    tensors = torch.load(file, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _part_tied_ends(adapted: nn.Module) -> None:
    """Give what is adapted a weight of its own where another module holds the same one."""
    holders: dict[int, int] = {}
    for module in adapted.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    for module in adapted.modules():
        inner = getattr(module, "base_layer", None)
        for name, parameter in getattr(inner, "_parameters", {}).items():
            if parameter is not None and holders.get(id(parameter), 0) > 1:
                inner._parameters[name] = nn.Parameter(parameter.clone(), requires_grad=False)  # type: ignore[union-attr]


def _tell_parted(merged: PreTrainedModel) -> None:
    """The config says whether the ends are tied; what reads it must not tie them again."""
    ends = merged.get_input_embeddings(), merged.get_output_embeddings()
    if None not in ends and ends[0].weight is not ends[1].weight:
        for config in (merged.config, merged.config.get_text_config()):
            if getattr(config, "tie_word_embeddings", False):
                config.tie_word_embeddings = False


def _changed(base: PreTrainedModel, merged: PreTrainedModel) -> bool:
    """Whether any parameter differs."""
    before = dict(base.named_parameters(remove_duplicate=False))
    return any(
        name not in before
        or before[name].shape != parameter.shape
        or not torch.equal(before[name], parameter)
        for name, parameter in merged.named_parameters(remove_duplicate=False)
    )
