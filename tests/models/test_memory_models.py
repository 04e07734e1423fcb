"""Models in memory: read as saved ones are, and left as they were."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer
from torch import nn

from mneme import pair
from mneme._util.errors import ModelError
from mneme.models import load_pair
from mneme.models.quiet import quiet_transformers

MATRIX = "model.layers.1.mlp.down_proj.weight"


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in model.state_dict().items()}


def adapted(base: nn.Module) -> Any:
    torch.manual_seed(5)
    config = LoraConfig(r=2, target_modules=["down_proj"], layers_to_transform=[1], init_lora_weights=False)
    with quiet_transformers():
        return get_peft_model(base, config)  # type: ignore[arg-type]  # puts its layers into base


def test_models_in_memory_are_the_pair_that_their_files_are(tmp_path: Path) -> None:
    base, tuned = tiny_llama(), changed_in_layer(tiny_llama(), 1)
    saved = [
        save(base, tmp_path / "base", tiny_tokenizer()),
        save(tuned, tmp_path / "tuned", tiny_tokenizer()),
    ]
    expected = load_pair(*saved, dtype="float32", device="cpu")
    for model in (base, tuned):
        model.requires_grad_(True).train()
    before = [(state(model), [id(p) for p in model.parameters()]) for model in (base, tuned)]
    found = pair(base, tuned, tokenizer=tiny_tokenizer())
    assert found.fingerprint == expected.fingerprint and found.changed_parameters == (MATRIX,)
    assert (found.base_id, found.tuned_id) == ("memory:LlamaForCausalLM", "memory:LlamaForCausalLM (tuned)")
    for model, (weights, parameters) in zip((base, tuned), before, strict=True):
        assert model.training and all(p.requires_grad for p in model.parameters())
        assert [id(p) for p in model.parameters()] == parameters  # tuned holds none of the base's
        assert all(torch.equal(part, weights[name]) for name, part in model.state_dict().items())
    assert pair(*saved, dtype="float32", device="cpu").fingerprint == expected.fingerprint


def test_an_adapter_is_merged_and_the_model_it_was_put_into_is_read_without_it(tmp_path: Path) -> None:
    plain = tiny_llama()
    held = copy.deepcopy(plain)
    tuned = adapted(held)  # from here on `held` has the adapter's layers in it
    weights = state(tuned)
    for base in (plain, held):
        found = pair(base, tuned, tokenizer=tiny_tokenizer())
        assert found.changed_parameters == (MATRIX,)
        merged = dict(found.tuned._module.named_parameters())[MATRIX]
        layer = tuned.base_model.model.model.layers[1].mlp.down_proj
        expected = layer.base_layer.weight + layer.get_delta_weight("default")
        assert torch.allclose(merged, expected, atol=1e-6)
        original = dict(found.base._module.named_parameters())[MATRIX]
        assert torch.equal(original, plain.state_dict()[MATRIX])
    assert all(torch.equal(part, weights[name]) for name, part in tuned.state_dict().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, when it is first imported
def test_a_compiled_model_is_read_as_the_one_within() -> None:
    base, tuned = tiny_llama(), changed_in_layer(tiny_llama(), 1)
    found = pair(base, torch.compile(tuned), tokenizer=tiny_tokenizer())
    assert found.changed_parameters == (MATRIX,)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("a", tiny_llama()), "not str and LlamaForCausalLM"),
        ((tiny_llama(), "a"), "not LlamaForCausalLM and str"),
        ((None, tiny_llama()), "not NoneType"),
        ((tiny_llama(), nn.Linear(2, 2)), "give a transformers or PEFT model"),
    ],
)
def test_what_is_no_pair_of_models_is_refused(given: tuple[Any, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        pair(*given, tokenizer=tiny_tokenizer())


def test_models_in_memory_need_their_tokenizer() -> None:
    with pytest.raises(ModelError, match="tokenizer=AutoTokenizer"):
        pair(tiny_llama(), tiny_llama(1))
