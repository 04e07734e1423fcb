"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from tiny_models import VOCABULARY, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM

_ENDS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "lm_head.weight": "output.weight",
    "model.norm.weight": "output_norm.weight",
}
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_llama(seed: int = 0) -> LlamaForCausalLM:
    """With a token for the one merge that a GGUF tokenizer needs."""
    return tiny_llama(seed, vocabulary=VOCABULARY + 1)


def write_gguf(
    file: Path,
    model: LlamaForCausalLM,
    *,
    kind: type = np.float32,
    without: Collection[str] = (),
    extra: Mapping[str, np.ndarray] | None = None,
    scaling: str | None = None,
) -> str:
    """Write a Llama: matrices as `kind`, vectors as float32; tensors `without` left out, `extra` ones added."""
    config = model.config
    writer = GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if scaling is not None:
        writer.add_string("llama.rope.scaling.type", scaling)
        writer.add_float32("llama.rope.scaling.factor", 4.0)
    tokens = sorted(tiny_tokenizer().get_vocab(), key=tiny_tokenizer().get_vocab().__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*tokens, "ab"])
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, parameter in model.state_dict().items():
        array = parameter.float().numpy()
        own = _ENDS.get(name)
        if own is None:
            _, _, layer, *parts = name.split(".")
            part = ".".join(parts[:-1])
            own = f"blk.{layer}.{_PARTS[part]}.weight"
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                array = _interleaved(array, getattr(config, f"num_{_heads(part)}_heads"))
        if own not in without:
            writer.add_tensor(own, np.ascontiguousarray(array.astype(kind if array.ndim > 1 else np.float32)))
    for own, array in (extra or {}).items():
        writer.add_tensor(own, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)


def _heads(part: str) -> str:
    return "attention" if part.endswith("q_proj") else "key_value"


def _interleaved(array: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp keeps the two halves that rotate together side by side."""
    split = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)
