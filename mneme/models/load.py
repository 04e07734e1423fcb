"""Load a model or a tokenizer, from wherever it is."""

from __future__ import annotations

import copy
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from mneme.errors import ModelError
from mneme.models.delta import apply_delta
from mneme.models.device import pick_device, pick_dtype
from mneme.models.quiet import quiet_transformers
from mneme.models.sources import Source, resolve

_LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, SafetensorError, ImportError, TypeError)


def load_model(spec: str, dtype: str = "auto", device: str = "auto") -> PreTrainedModel:
    """The model that `spec` names (see mneme/models/sources.py), in eval mode, its parameters frozen.

    Raises ModelError when it can't be found, read or used; the message says what to do.
    """
    return load_source(resolve(spec), dtype, device)


def load_source(
    source: Source,
    dtype: str = "auto",
    device: str = "auto",
    base: tuple[Source, PreTrainedModel] | None = None,
) -> PreTrainedModel:
    """Load what was found; `base` is a model already loaded, used when an adapter or delta builds on it."""
    where = pick_device(device)
    precision = pick_dtype(dtype, where)
    if source.kind == "weights":
        return _load_weights(source, precision, where)
    ground_source, ground = _ground(source, dtype, device, base)
    try:
        if source.kind == "delta":
            return apply_delta(ground, source.folder)
        return _merge_adapter(ground, source)
    except ModelError as error:
        if ground_source.spec != source.base:
            raise
        raise ModelError(f"{error} (built on {source.base})") from error


def load_tokenizer(spec: str) -> PreTrainedTokenizerBase:
    """The tokenizer of the model that `spec` names; that of its base where it has none of its own."""
    return tokenizer_of(resolve(spec))


def tokenizer_of(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that was found."""
    if not has_tokenizer(source):
        if source.base is None:
            raise ModelError(f"{source.spec} has no tokenizer: put its tokenizer.json beside config.json")
        return load_tokenizer(source.base)
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source.folder)
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"the tokenizer of {source.spec} can't be read ({_first_line(error)}): put tokenizer.json there"
        ) from error


def has_tokenizer(source: Source) -> bool:
    """Whether a tokenizer lies beside the weights."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
    return any((source.folder / name).is_file() for name in names)


def _ground(
    source: Source, dtype: str, device: str, base: tuple[Source, PreTrainedModel] | None
) -> tuple[Source, PreTrainedModel]:
    """The model an adapter or delta builds on."""
    if source.base is None:
        raise ModelError(f"{source.spec} doesn't name its base: set base_model_name_or_path in its config")
    if base is not None and source.base == base[0].spec:
        return base
    try:
        found = resolve(source.base)
    except ModelError as error:
        raise ModelError(f"the base of {source.spec} can't be found: {error}") from error
    if base is not None and found.folder.resolve() == base[0].folder.resolve():
        return base
    return found, load_source(found, dtype, device)


def _load_weights(source: Source, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    try:
        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source.folder, dtype=dtype, output_loading_info=True
            )
            model, info = loaded
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"{source.spec} can't be loaded ({_first_line(error)}): check its config.json and weights,"
            " or fetch it again"
        ) from error
    # transformers fills what is missing with random numbers, and says so only in its log.
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{source.spec} lacks {len(missing)} of its weights (first {missing[0]}): fetch it again"
        )
    return model.to(device).requires_grad_(False).eval()


def _merge_adapter(base: PreTrainedModel, source: Source) -> PreTrainedModel:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ModelError(f"{source.spec} is a PEFT adapter: pip install 'mneme[peft]'") from error
    try:
        with quiet_transformers():
            # peft merges in place, so it gets a copy of its own.
            merged = PeftModel.from_pretrained(copy.deepcopy(base), source.folder).merge_and_unload()
    except _LOAD_ERRORS as error:
        raise ModelError(
            f"the adapter {source.spec} can't be merged ({_first_line(error)}):"
            f" check that it was made for {source.base}"
        ) from error
    return merged.requires_grad_(False).eval()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
