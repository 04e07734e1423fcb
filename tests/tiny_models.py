"""Random decoders of a few thousand weights, and a byte tokenizer: made in milliseconds, no download."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from mneme.models.quiet import quiet_transformers

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
VOCABULARY = len(BYTES) + 2


def tiny_tokenizer(bos: str | None = "<s>", first: int = 0) -> PreTrainedTokenizerFast:
    """A token a byte; `first` rotates the ids, which makes another vocabulary."""
    order = BYTES[first:] + BYTES[:first]
    tokenizer = Tokenizer(BPE({**{b: i + 2 for i, b in enumerate(order)}, "<s>": 0, "</s>": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token="</s>")


def tiny_llama(
    seed: int = 0, layers: int = 4, width: int = 16, vocabulary: int = VOCABULARY
) -> LlamaForCausalLM:
    """A random float32 Llama."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.4,  # so that layers do something: untrained models of 0.02 are near the identity
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).requires_grad_(False).eval()


def changed_in_layer(model: PreTrainedModel, layer: int, by: float = 0.3) -> PreTrainedModel:
    """A copy whose mlp.down_proj of one layer differs."""
    tuned = copy.deepcopy(model)
    weight = tuned.model.layers[layer].mlp.down_proj.weight
    weight.data += by * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    return tuned


def save(model: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> str:
    """Save as a transformers folder; its path."""
    with quiet_transformers():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def save_with_own_code(folder: Path) -> str:
    """A model and a tokenizer of classes that only a Python file beside them has; its path."""
    spec = save(tiny_llama(), folder, tiny_tokenizer())
    (folder / "own.py").write_text(OWN_CODE)
    models = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    changes = {
        "config.json": {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": models},
        "tokenizer_config.json": {
            "tokenizer_class": "OwnTokenizer",
            "auto_map": {"AutoTokenizer": [None, "own.OwnTokenizer"]},
        },
    }
    for name, change in changes.items():
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    return spec
