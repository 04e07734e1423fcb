"""Two models become a pair: what is checked, what is shared."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import VOCABULARY, changed_in_layer, save, tiny_llama, tiny_tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
)

from mneme._util.errors import ModelError, PairError
from mneme.models import layers, load_pair, pair_models


def parameters(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters(remove_duplicate=False))


def test_a_pair_of_folders_shares_what_is_equal(tmp_path: Path) -> None:
    base = save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    tuned = save(changed_in_layer(tiny_llama(), 2), tmp_path / "tuned", tiny_tokenizer())
    pair = load_pair(base, tuned, dtype="float32", device="cpu")
    assert (pair.n_layers, pair.width, pair.vocab_size) == (4, 16, VOCABULARY)
    assert (pair.first_changed_layer, pair.middle_layer) == (2, 1)
    assert pair.changed_parameters == ("model.layers.2.mlp.down_proj.weight",)
    before, after = parameters(pair.base._module), parameters(pair.tuned._module)
    own = [name for name in after if after[name] is not before[name]]
    assert own == list(pair.changed_parameters)
    ids = torch.arange(10)[None]
    assert torch.equal(pair.tuned._module(ids).logits, changed_in_layer(tiny_llama(), 2)(ids).logits)


def test_a_delta_pair_never_holds_two_models(tmp_path: Path) -> None:
    base = save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    name = "model.layers.3.mlp.down_proj.weight"
    (tmp_path / "delta").mkdir()
    save_file({name: torch.ones(16, 32)}, tmp_path / "delta" / "delta.safetensors")
    (tmp_path / "delta" / "recipe.toml").write_text(f"base = '{base}'\n")
    pair = load_pair(base, str(tmp_path / "delta"), dtype="float32", device="cpu")
    assert pair.first_changed_layer == 3
    assert torch.equal(parameters(pair.tuned._module)[name], torch.ones(16, 32))
    assert not torch.equal(parameters(pair.base._module)[name], torch.ones(16, 32))
    assert parameters(pair.tuned._module)["lm_head.weight"] is parameters(pair.base._module)["lm_head.weight"]


def test_a_model_against_itself_has_no_changed_layer() -> None:
    pair = pair_models(tiny_llama(), tiny_llama(), tiny_tokenizer())
    assert pair.first_changed_layer is None
    assert pair.changed_parameters == ()


def test_changed_embeddings_or_settings_count_from_the_first_layer() -> None:
    tuned = tiny_llama()
    tuned.model.embed_tokens.weight.data[5] += 1
    assert pair_models(tiny_llama(), tuned, tiny_tokenizer()).first_changed_layer == 0
    stretched = tiny_llama()
    stretched.config.rope_parameters = {**stretched.config.rope_parameters, "rope_theta": 77.0}
    assert pair_models(tiny_llama(), stretched, tiny_tokenizer()).first_changed_layer == 0


def test_a_changed_head_changes_no_layer() -> None:
    tuned = tiny_llama()
    tuned.lm_head.weight.data[5] += 1
    tuned.model.norm.weight.data *= 2
    assert pair_models(tiny_llama(), tuned, tiny_tokenizer()).first_changed_layer is None


@pytest.mark.parametrize(
    ("tuned", "message"),
    [
        ({"width": 32}, "differ in width"),
        ({"layers": 5}, "differ in layers"),
        ({"vocabulary": VOCABULARY + 40}, "vocabularies"),
    ],
)
def test_models_of_different_shape_are_refused(tuned: dict[str, int], message: str) -> None:
    with pytest.raises(PairError, match=message) as caught:
        pair_models(tiny_llama(), tiny_llama(**tuned), tiny_tokenizer())
    assert "\n" not in str(caught.value)


def test_a_few_added_tokens_are_no_other_vocabulary() -> None:
    assert pair_models(tiny_llama(), tiny_llama(vocabulary=VOCABULARY + 2), tiny_tokenizer()).vocab_size == (
        VOCABULARY
    )


def test_a_tokenizer_with_other_ids_is_refused(tmp_path: Path) -> None:
    base = save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    tuned = save(tiny_llama(1), tmp_path / "tuned", tiny_tokenizer(first=9))
    with pytest.raises(PairError, match="different vocabularies"):
        load_pair(base, tuned)


def test_a_tuned_model_without_tokenizer_takes_the_base_one(tmp_path: Path) -> None:
    base = save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    tuned = save(tiny_llama(1), tmp_path / "tuned")
    assert len(load_pair(base, tuned).tokenizer) == VOCABULARY


def test_the_fingerprint_follows_weights_and_vocabulary() -> None:
    def fingerprint(tuned: PreTrainedModel, first: int = 0) -> str:
        return pair_models(tiny_llama(), tuned, tiny_tokenizer(first=first)).fingerprint

    same = fingerprint(tiny_llama(1))
    assert fingerprint(tiny_llama(1)) == same
    assert fingerprint(tiny_llama(2)) != same
    assert fingerprint(tiny_llama(1), first=3) != same


def test_tied_embeddings_stay_tied_when_shared() -> None:
    base = tiny_llama()
    base.lm_head.weight = base.model.embed_tokens.weight
    tuned = copy.deepcopy(base)
    tuned.model.embed_tokens.weight.data[3] += 1
    pair = pair_models(base, tuned, tiny_tokenizer())
    after = parameters(pair.tuned._module)
    assert after["lm_head.weight"] is after["model.embed_tokens.weight"]
    assert after["lm_head.weight"] is not parameters(pair.base._module)["lm_head.weight"]


SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 64}


@pytest.mark.parametrize(
    ("kind", "settings", "path"),
    [
        ("gpt2", {"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 64}, "transformer.h"),
        ("gpt_neox", {**SMALL, "intermediate_size": 32}, "gpt_neox.layers"),
        ("opt", {**SMALL, "ffn_dim": 32, "word_embed_proj_dim": 16}, "model.decoder.layers"),
        ("qwen2", {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1}, "model.layers"),
        (
            "gemma2",
            {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8},
            "model.layers",
        ),
        ("bloom", {"hidden_size": 16, "n_layer": 3, "n_head": 2, "vocab_size": 64}, "transformer.h"),
        (
            "mixtral",  # as many experts as layers
            {**SMALL, "intermediate_size": 32, "num_key_value_heads": 1, "num_local_experts": 3},
            "model.layers",
        ),
    ],
)
def test_the_layer_list_is_found_in_any_decoder(kind: str, settings: dict, path: str) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    assert layers.layers_path(model) == path
    assert layers.n_layers(model) == 3
    assert layers.width(model) == 16


def test_a_model_without_layers_is_refused() -> None:
    model = tiny_llama()
    model.model.layers = nn.Sequential(*model.model.layers)
    with pytest.raises(ModelError, match="no list of layers"):
        layers.layers_path(model)
