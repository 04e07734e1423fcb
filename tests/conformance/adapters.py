"""Adapters of every kind that the installed PEFT registers, merged by mneme and unmerged by PEFT."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType, get_peft_model
from tiny_models import save, tiny_tokenizer
from transformers import PreTrainedModel

from conformance.architectures import VOCABULARY, tiny_model
from mneme._util.errors import UserError
from mneme.models import load_model

VARIANTS: dict[str, dict[str, Any]] = {
    "LORA, DoRA": {"use_dora": True},
    "LORA, rank-stabilised": {"use_rslora": True},
    "LORA, biases too": {"bias": "lora_only"},
}
ENDS: dict[str, tuple[str, ...]] = {
    "LORA, of the embeddings": ("embeddings",),
    "LORA, of the head": ("head",),
    "LORA, of both ends": ("embeddings", "head"),
}
"""Variants that adapt an end and no layer, where merging could change both ends of a tie."""
KINDS = (*sorted(kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING), *VARIANTS, *ENDS)
BASES = ("llama", "gpt2", "gemma2")
"""Separate matrices; matrices stored the other way round, and a tie of embeddings and head; the tie alone."""

_TARGETS = {"gpt2": ["c_attn", "c_fc"], "llama": ["q_proj", "v_proj"], "gemma2": ["q_proj", "v_proj"]}
_END_NAMES = {"gpt2": {"embeddings": "wte"}, "llama": {}, "gemma2": {}}
# What a kind must be told beside what it adapts.
_SETTINGS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10},
    "IA3": {"feedforward_modules": []},
    "OFT": {"oft_block_size": 4, "r": 0},
    "BOFT": {"boft_block_size": 4},
    "VBLORA": {"vector_length": 4, "num_vectors": 8, "topk": 2},
    "RANDLORA": {"r": 4},
    "VERA": {"r": 4},
    "FOURIERFT": {"n_frequency": 20},
    "C3A": {"block_size": 4},
    "SHIRA": {"r": 2},
    "ROAD": {"group_size": 4},
    "MISS": {"r": 4},
    "PSOFT": {"r": 4},
    "WAVEFT": {"n_frequency": 20},
    "TRAINABLE_TOKENS": {"token_indices": [5, 6], "target_modules": None},
    "LOHA": {"r": 4},
    "LOKR": {"r": 4},
    "LORA": {"r": 4},
}


@dataclass
class Merge:
    """What came of an adapter kind on a base."""

    kind: str
    base: str
    status: str
    """merged, refused or untried."""
    reason: str = ""
    off: float = 0.0
    """Largest difference of logits from the unmerged adapter's, of their size."""
    moved: float = 0.0
    """The same of the adapter's from the base's."""
    ends: tuple[str, ...] = ()
    """Which of embeddings and head are others than the base's after the merge."""

    @property
    def ok(self) -> bool:
        """Merged into what the adapter computes, and nothing but it changed of the ends; or refused."""
        if self.status != "merged":
            return True
        return self.off < min(1e-3, self.moved / 100) and self.ends == ENDS.get(self.kind, self.ends)

    @property
    def wrong(self) -> str:
        """What a row says where it is not ok."""
        spilled = self.ends != ENDS.get(self.kind, self.ends)
        return f"changes {' and '.join(self.ends) or 'no end'}" if spilled else f"off by {self.off:.1e}"


@torch.no_grad()
def merge(kind: str, base: str) -> Merge:
    """Save a random adapter of the kind, load it as mneme does, and hold it against PEFT's own model."""
    config_class: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind.partition(",")[0])]
    ids = torch.randint(2, VOCABULARY - 1, (2, 12), generator=torch.Generator().manual_seed(0))
    before = tiny_model(base)(ids).logits
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        folder = Path(name)
        ground = save(tiny_model(base), folder / "base", tiny_tokenizer())
        try:
            warnings.simplefilter("ignore")  # PEFT's own, of transformers' coming version
            model: Any = get_peft_model(tiny_model(base), _config(config_class, kind, base)).eval()
            _stir(model)
            true = model(input_ids=ids).logits
            model.peft_config["default"].base_model_name_or_path = ground
            model.save_pretrained(folder / "adapter")
        except Exception as error:  # whatever a kind asks for that a tiny decoder or this table has not
            return Merge(kind, base, "untried", f"{type(error).__name__}: {_first_line(error)}")
        try:
            merged = load_model(str(folder / "adapter"), dtype="float32", device="cpu")
            found = merged(ids).logits
        except UserError as error:
            return Merge(kind, base, "refused", str(error).replace(name + "/", ""))
    size = float(true.abs().max())
    off, moved = (float((other - true).abs().max()) / size for other in (found, before))
    if moved == 0:
        return Merge(kind, base, "untried", "it changes nothing in this base")
    return Merge(kind, base, "merged", "", off, moved, _changed_ends(merged, tiny_model(base)))


def _changed_ends(model: PreTrainedModel, base: PreTrainedModel) -> tuple[str, ...]:
    """Embeddings, head, both or neither."""
    held = [
        {"embeddings": each.get_input_embeddings(), "head": each.get_output_embeddings()}
        for each in (model, base)
    ]
    return tuple(end for end in held[0] if not torch.equal(*(ends[end].weight for ends in held)))


def _config(config_class: Any, kind: str, base: str) -> Any:
    known = config_class.__dataclass_fields__
    given: dict[str, Any] = {"task_type": "CAUSAL_LM"}
    if "target_modules" in known:
        given["target_modules"] = _TARGETS[base]
    if "fan_in_fan_out" in known:
        given["fan_in_fan_out"] = base == "gpt2"
    if "num_virtual_tokens" in known:
        given["num_virtual_tokens"] = 3
    given |= {k: v for k, v in _SETTINGS.get(kind.partition(",")[0], {}).items() if k in known}
    if kind in ENDS:
        names = {"embeddings": "embed_tokens", "head": "lm_head", **_END_NAMES[base]}
        given |= {"target_modules": [names[end] for end in ENDS[kind]], "fan_in_fan_out": False}
    return config_class(**given | VARIANTS.get(kind, {}))


def _stir(model: Any) -> None:
    """Adapters start as nothing: give what they train some random values."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
