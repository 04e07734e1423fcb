"""Load a model or a tokenizer, from wherever it is."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mneme._util.errors import ModelError, first_line
from mneme.models.adapter import check_adapter, merge_adapter
from mneme.models.bases import find_base
from mneme.models.causality import check_causal, check_config
from mneme.models.delta import apply_delta
from mneme.models.device import pick_device, pick_dtype
from mneme.models.hints import pointer
from mneme.models.plausible import check_plausible
from mneme.models.quiet import quiet_transformers
from mneme.models.sources import Source, resolve
from mneme.models.whole import UNWRAPPED, check_whole, wrapped

_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    SafetensorError,
    ImportError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Loading:
    """How models are loaded."""

    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    """Run the Python code that comes with a model."""
    notes: list[str] = field(default_factory=list)
    """What the user should know of what was loaded; added to while loading."""


def load_model(
    spec: str, dtype: str = "auto", device: str = "auto", *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model that `spec` names (see mneme/models/sources.py), in eval mode, its parameters frozen.

    Raises ModelError when it can't be found, read or used; the message says what to do.
    """
    return load_source(resolve(spec), Loading(dtype, device, trust_remote_code))


def load_source(
    source: Source, how: Loading, base: tuple[Source, PreTrainedModel] | None = None
) -> PreTrainedModel:
    """Load what was found; `base` is a model already loaded, used when an adapter or delta builds on it."""
    where = pick_device(how.device)
    precision = pick_dtype(how.dtype, where)
    if source.kind == "weights":
        return _load_weights(source, precision, where, how.trust_remote_code)
    if source.kind == "adapter":
        check_adapter(source)
    ground_source, note = find_base(source, base and base[0])
    if note:
        how.notes.append(note)
    ground = base[1] if base is not None and ground_source is base[0] else load_source(ground_source, how)
    try:
        return apply_delta(ground, source.folder) if source.kind == "delta" else merge_adapter(ground, source)
    except ModelError as error:
        raise ModelError(f"{error} (built on {ground_source.spec})") from error


def load_tokenizer(spec: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of the model that `spec` names; that of its base where it has none of its own."""
    return tokenizer_of(resolve(spec), trust_remote_code)


def tokenizer_of(source: Source, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that was found."""
    if not has_tokenizer(source):
        if source.base is None:
            raise ModelError(f"{source.spec} has no tokenizer: put its tokenizer.json beside config.json")
        return load_tokenizer(source.base, trust_remote_code=trust_remote_code)
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(source.folder, trust_remote_code=trust_remote_code)
    except _ERRORS as error:
        if "trust_remote_code" in str(error):
            raise ModelError(_untrusted(source, "tokenizer_config.json")) from error
        if _needs_sentencepiece(source):
            raise ModelError(
                f"the tokenizer of {source.spec} is a SentencePiece model (tokenizer.model), for which a package is"
                " missing: pip install sentencepiece protobuf, or put its tokenizer.json there"
            ) from error
        raise ModelError(
            f"the tokenizer of {source.spec} can't be read ({first_line(error)}): put tokenizer.json there"
        ) from error


def load_tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer that lies in a folder without a model."""
    return tokenizer_of(Source(str(folder), folder, "weights"))


def has_tokenizer(source: Source) -> bool:
    """Whether a tokenizer lies beside the weights."""
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tokenizer_config.json")
    return any((source.folder / name).is_file() for name in names)


def _needs_sentencepiece(source: Source) -> bool:
    """Whether only a SentencePiece model lies there, and nothing here reads it."""
    if (source.folder / "tokenizer.json").is_file() or not (source.folder / "tokenizer.model").is_file():
        return False
    return any(importlib.util.find_spec(name) is None for name in ("sentencepiece", "google.protobuf"))


def _load_weights(
    source: Source, dtype: torch.dtype, device: torch.device, trust_remote_code: bool
) -> PreTrainedModel:
    config = _config(source, trust_remote_code)
    check_config(config, source.spec)
    weights = [file for end in ("*.safetensors", "*.bin") for file in source.folder.glob(end)]
    settings = config.get_text_config().to_dict()
    check_plausible(source.spec, settings, sum(file.stat().st_size for file in weights))
    options = {"config": config, "dtype": dtype, "trust_remote_code": trust_remote_code}
    try:
        model, info = _read_weights(source.folder, options)
        if wrapped(info):
            model, info = _read_weights(source.folder, options | {"key_mapping": UNWRAPPED})
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{source.spec}: its .bin file is damaged, or holds more than tensors (code that would be run): it is not"
            " read; get model.safetensors"
        ) from error
    except _ERRORS as error:
        if told := pointer(source.folder):
            raise ModelError(told) from error
        raise ModelError(
            f"{source.spec} can't be loaded ({first_line(error)}): check its config.json and weights,"
            " or fetch it again"
        ) from error
    check_whole(source.spec, info)
    if getattr(model.config, "rescale_every", 0):
        # RWKV divides its weights by powers of 2 at the first reading, in place, against overflow in float16. The
        # numbers are the same without it, and weights that are shared or merged must stay what they are.
        model.config.rescale_every = 0
    ready: PreTrainedModel = model.to(device).requires_grad_(False).eval()
    check_causal(ready, source.spec)
    return ready


def _read_weights(folder: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model and what became of each weight. Of other shapes `check_whole` tells more than transformers does."""
    with quiet_transformers():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, info = loaded
    return model, info


def _config(source: Source, trust_remote_code: bool) -> PreTrainedConfig:
    try:
        with quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(
                source.folder, trust_remote_code=trust_remote_code
            )
    except _ERRORS as error:
        if "trust_remote_code" in str(error):
            raise ModelError(_untrusted(source, "config.json")) from error
        raise ModelError(
            f"the config of {source.spec} can't be used ({first_line(error)}): fetch it again"
        ) from error
    if config.model_type not in CONFIG_MAPPING and not trust_remote_code:
        raise ModelError(_untrusted(source, "config.json"))
    return config


def _untrusted(source: Source, file: str) -> str:
    return (
        f"{source.spec} brings Python code of its own (auto_map in {file}), which mneme does not run: read that code,"
        " and set models.trust_remote_code=true (or give --trust-remote-code) if you trust it"
    )
