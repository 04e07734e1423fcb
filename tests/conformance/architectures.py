"""A tiny random model of every decoder that the installed transformers registers.

The list is the registry's own, so that what a new release adds is tried or named as untried. A config is the
architecture's default one with every size it names made small; `SPECIAL` holds what some need beside that.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

ARCHITECTURES = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
N_LAYERS = 4
VOCABULARY = 259  # a byte tokenizer's, and a row more

# What each size is called, over all configs, and what it is here.
_SIZES: dict[str, int] = {
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), N_LAYERS
    ),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embedding_size", "emb_dim", "d_embed"), 32),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "attention_heads"), 4
    ),
    **dict.fromkeys(("encoder_attention_heads", "linear_num_value_heads", "index_n_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "kv_n_heads", "num_kv_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("swa_num_attention_heads",), 4),
    **dict.fromkeys(("swa_num_key_value_heads",), 2),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim", "encoder_ffn_dim"), 64
    ),
    **dict.fromkeys(("d_ff", "dff", "dim_ff", "d_inner", "intermediate_size_mlp", "attention_hidden_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), 32),
    **dict.fromkeys(("shared_intermediate_size", "moe_shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("head_dim", "d_kv", "dim_head", "v_head_dim", "qk_nope_head_dim", "qk_head_dim"), 8),
    **dict.fromkeys(("swa_head_dim", "linear_key_head_dim", "linear_value_head_dim", "index_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
    **dict.fromkeys(
        ("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts", "moe_n_experts"), 4
    ),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_top_k", "num_experts_per_token", "moe_k"), 2),
    **dict.fromkeys(("linear_num_heads", "hidden_size_per_layer_input"), 4),
    **dict.fromkeys(("linear_head_dim", "router_hidden_size", "dim_model_base"), 16),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("mamba_d_state", "state_size", "mamba_d_head", "ssm_state_size"), 8),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "window_size"), 16),
    **dict.fromkeys(("vocab_size", "decoder_vocab_size", "unpadded_vocab_size"), VOCABULARY),
    "encoder_hash_byte_group_vocab": 50,
    "vocab_size_per_layer_input": VOCABULARY,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
}  # fmt: skip
# Lists a layer each, which configs make themselves for their count of layers.
_PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "per_layer_config")
_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id")

# What an architecture needs beside: sizes that hang together, and what its default leaves out.
SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_ssm": 64},
    "granitemoehybrid": {
        "mamba_n_heads": 8,
        "layer_types": ["mamba", "attention"] * 2,
    },
    "ministral": {"head_dim": 8, "num_key_value_heads": 2},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "hunyuan_v1_dense": {"head_dim": 8, "num_key_value_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 8, "num_key_value_heads": 2},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"hidden_size": 32, "ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "intermediate_size": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "zamba": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "xlm": {"causal": True},
    **{
        kind: {"is_decoder": True}
        for kind in (
            "bert",
            "bert-generation",
            "camembert",
            "data2vec-text",
            "electra",
            "ernie",
            "megatron-bert",
        )
    },
    **{
        kind: {"is_decoder": True}
        for kind in (
            "rembert",
            "roberta",
            "roberta-prelayernorm",
            "roformer",
            "xlm-roberta",
            "xlm-roberta-xl",
        )
    },
    "zamba2": {"layer_types": ["mamba", "hybrid"] * 2, "layers_block_type": ["mamba", "hybrid"] * 2},
    "rwkv": {"attention_hidden_size": 32, "rescale_every": 2},
    "zaya": {"num_experts_per_tok": 1},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
    },
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "per_layer_config": {},
    },
    "gemma4_unified_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "per_layer_config": {},
    },
    "dots3_note_text": {"per_layer_config": {}, "num_attention_heads": 4, "num_key_value_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
}


def tiny_config(kind: str, **settings: Any) -> Any:
    """The architecture's default config, small; `settings` go over all else."""
    known = CONFIG_MAPPING[kind]
    return known(**{**_shrunk(known().to_dict()), **SPECIAL.get(kind, {}), **settings})


def tiny_model(kind: str, seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random float32 model, in eval mode, whose layers do something: initial weights are made larger."""
    config = tiny_config(kind, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3 if parameter.shape[-1] <= 64 else 0.1)
                else:
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return model.requires_grad_(False).eval()


def _shrunk(config: dict[str, Any]) -> dict[str, Any]:
    """What a config's dictionary says of sizes, made small, of its parts' configs too."""
    small: dict[str, Any] = {}
    for name, value in config.items():
        if name.endswith("_config") and isinstance(value, dict):
            small[name] = {**value, **_shrunk(value)}
            for gone in (*_PER_LAYER, "qk_head_dim"):
                small[name].pop(gone, None)
        elif name in _SIZES and isinstance(value, int) and not isinstance(value, bool):
            small[name] = _SIZES[name]
        elif name in _IDS and value is not None:
            small[name] = 1
    if "qk_rope_head_dim" in config:  # latent attention: its heads' sizes follow from each other
        small |= {"head_dim": 4, "num_key_value_heads": 4}
        small.pop("qk_head_dim", None)
    return small
