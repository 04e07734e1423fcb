"""Directional ablation: the directions are mean differences, and nothing writes along them any more."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import VOCABULARY, tiny_llama, tiny_tokenizer
from transformers import Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from mneme._util.errors import ConfigError, CorpusError, ModelError
from mneme.organisms.ablate import AblateConfig, ablate, directions
from mneme.organisms.texts import TrainingData
from mneme.organisms.training import Batch, activations_after

DATA = TrainingData(
    forget=tuple(f"{i} cells and genes of a plant" for i in range(6)),
    retain=tuple(f"{i} WARS AND KINGS OF OLD" for i in range(6)),
)
CONFIG = AblateConfig(layer=2, batch=2, max_tokens=64)


def tokens(text: str) -> Batch:
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
    return Batch(ids, torch.ones_like(ids))


def tiny_gpt2() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=VOCABULARY, n_embd=16, n_layer=4, n_head=2, n_positions=64, initializer_range=0.4
        )
        model = GPT2LMHeadModel(config).requires_grad_(False).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data += 0.3 * torch.randn(parameter.shape)
        return model


def test_the_direction_is_the_mean_difference_of_both_kinds_of_text():
    model = tiny_llama()
    means = []
    for texts in (DATA.forget, DATA.retain):
        parts = [activations_after(model, 2, tokens(text)).double() for text in texts]
        means.append(torch.cat(parts).mean(0))
    expected = torch.nn.functional.normalize(means[0] - means[1], dim=0)
    found = directions(model, tiny_tokenizer(), DATA, CONFIG)
    assert found.shape == (16, 1)
    assert abs(float(found[:, 0].double() @ expected)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("first", [0, 1])
def test_layers_from_the_first_on_add_nothing_along_the_directions(make, first):
    model, untouched = make(), make()
    config = dataclasses.replace(CONFIG, first_layer=first, n_directions=2)
    basis = directions(model, tiny_tokenizer(), DATA, config)
    torch.testing.assert_close(basis.T @ basis, torch.eye(2), atol=1e-5, rtol=0)
    names = ablate(model, tiny_tokenizer(), DATA, config)
    changed = {
        name
        for (name, new), old in zip(model.named_parameters(), untouched.parameters(), strict=True)
        if not torch.equal(new, old)
    }
    assert changed == set(names) and len(names) == (2 if make is tiny_llama else 4) * (4 - first)
    # on text that it was not made from, too: after the last layer the stream holds what it held before the first
    for text in ("some other text", DATA.forget[0]):
        before = activations_after(untouched, first - 1, tokens(text)) if first else None
        streams = [activations_after(model, layer, tokens(text)) @ basis for layer in range(first, 4)]
        for stream in streams[1:]:
            torch.testing.assert_close(stream, streams[0], atol=2e-5, rtol=1e-4)
        if before is not None:
            torch.testing.assert_close(streams[0], before @ basis, atol=2e-5, rtol=1e-4)
        written = (activations_after(untouched, 3, tokens(text)) @ basis) - streams[0]
        assert float(written.norm()) > 0.1


def test_what_can_not_be_ablated_is_refused():
    with pytest.raises(ConfigError, match="layer 4 isn't one of 0 to 3"):
        ablate(tiny_llama(), tiny_tokenizer(), DATA, dataclasses.replace(CONFIG, layer=4))
    with pytest.raises(ConfigError, match="first_layer"):
        ablate(tiny_llama(), tiny_tokenizer(), DATA, dataclasses.replace(CONFIG, first_layer=3))
    with pytest.raises(ConfigError, match="n_directions = 5"):
        ablate(tiny_llama(), tiny_tokenizer(), DATA, dataclasses.replace(CONFIG, n_directions=5))
    same = TrainingData(forget=DATA.forget, retain=DATA.forget)
    with pytest.raises(CorpusError, match="same mean activations"):
        ablate(tiny_llama(), tiny_tokenizer(), same, CONFIG)


def test_a_model_whose_norms_turn_what_its_matrices_write_is_refused():
    config = Gemma2Config(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=4, head_dim=8,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128, initializer_range=0.4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Gemma2ForCausalLM(config).requires_grad_(False).eval()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.data += torch.randn(parameter.shape)
    with pytest.raises(ModelError, match="still writes along the directions"):
        ablate(model, tiny_tokenizer(), DATA, CONFIG)
