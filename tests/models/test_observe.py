"""What a forward pass shows: which list text passes through, what is read when, what changes in place."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from conformance.architectures import tiny_model
from safetensors.torch import save_file
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer
from torch import nn

from mneme._util.errors import ModelError
from mneme.harvest.forward import PairReader
from mneme.models import layers, load_pair, pair_models
from mneme.models.delta import replace_tensor, sharing_copy
from mneme.models.observe import observe, untouched

IDS = torch.randint(2, 250, (2, 40), generator=torch.Generator().manual_seed(0))


def test_what_a_model_divides_in_place_is_not_shared() -> None:
    """RWKV halves some weights when it first runs; two models over one tensor would halve it twice."""
    name = "rwkv.blocks.3.feed_forward.value.weight"
    plain = tiny_model("rwkv"), tiny_model("rwkv")
    changed = plain[1].get_parameter(name) + 1
    plain[1].get_parameter(name).data.copy_(changed)
    base = tiny_model("rwkv")
    tuned = sharing_copy(base)
    replace_tensor(tuned, name, changed)
    pair = pair_models(base, tuned, tiny_tokenizer())
    assert (pair.changed_parameters, pair.first_changed_layer) == ((name,), 3)
    for mine, true in zip((pair.base, pair.tuned), plain, strict=True):
        for _ in range(2):  # the first pass divides, the second must not
            assert torch.equal(mine._module(IDS, use_cache=False).logits, true(IDS, use_cache=False).logits)
    held = [dict(model._module.named_parameters()) for model in (pair.base, pair.tuned)]
    assert held[0]["rwkv.embeddings.weight"] is held[1]["rwkv.embeddings.weight"]
    divided = "rwkv.blocks.2.feed_forward.value.weight"
    assert held[0][divided] is not held[1][divided] and torch.equal(held[0][divided], held[1][divided])


def test_a_parameter_put_in_anothers_place_by_a_pass_is_seen() -> None:
    model = tiny_llama()
    norm = model.model.norm
    norm.register_forward_pre_hook(lambda module, args: setattr(module.weight, "data", module.weight * 2))
    before = norm.weight.clone()
    written = observe(model).written
    assert list(written) == ["model.norm.weight"] and torch.equal(written["model.norm.weight"], before)


def test_a_changed_buffer_is_a_change() -> None:
    """DeepSeek-V3 routes tokens by a buffer: it decides which experts run."""
    name = "model.layers.2.mlp.gate.e_score_correction_bias"
    tuned = tiny_model("deepseek_v3")
    tuned.get_buffer(name)[:] = torch.tensor([5.0, -5.0, 5.0, -5.0])
    pair = pair_models(tiny_model("deepseek_v3"), tuned, tiny_tokenizer())
    same = pair_models(tiny_model("deepseek_v3"), tiny_model("deepseek_v3"), tiny_tokenizer())
    assert (pair.changed_parameters, pair.first_changed_layer) == ((name,), 2)
    assert (same.changed_parameters, same.first_changed_layer) == ((), None)
    assert pair.fingerprint != same.fingerprint
    reader = PairReader(pair, 3)
    found, whole = reader.read(IDS), PairReader(pair, 3, share_layers=False).read(IDS)
    assert reader.n_shared == 2
    assert torch.equal(found.tuned, whole.tuned) and not torch.equal(found.base, found.tuned)


def test_a_delta_may_replace_a_buffer(tmp_path: Path) -> None:
    name = "model.layers.2.mlp.gate.e_score_correction_bias"
    base = save(tiny_model("deepseek_v3"), tmp_path / "base", tiny_tokenizer())
    (tmp_path / "delta").mkdir()
    save_file({name: torch.arange(4.0)}, tmp_path / "delta" / "delta.safetensors")
    (tmp_path / "delta" / "recipe.toml").write_text(f"base = '{base}'\n")
    pair = load_pair(base, str(tmp_path / "delta"), dtype="float32", device="cpu")
    assert torch.equal(pair.tuned._module.get_buffer(name), torch.arange(4.0))
    assert not torch.equal(pair.base._module.get_buffer(name), torch.arange(4.0))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("gemma3n_text", r"carries something of shape \(4, 2, 7, 32\)"),
        ("deepseek_v4", r"carries something of shape \(2, 7, 4, 32\)"),
        ("hrm_text", "more than once"),
        ("reformer", "hands 2 streams"),
        ("xlm", "does not give a layer what the one before made"),
        ("mllama", "3 of the 4 layers"),
    ],
)
def test_a_model_without_one_stream_is_refused_in_a_line(kind: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        pair_models(tiny_model(kind), tiny_model(kind), tiny_tokenizer())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("xlnet", {}, r"carries something of shape \(7, 2, 32\)"),
        ("bert", {"is_decoder": False}, "no causal decoder"),
    ],
)
def test_what_the_layers_of_no_causal_decoder_show(kind: str, settings: dict, message: str) -> None:
    """Told where such a model comes this far, which no pair's does."""
    with pytest.raises(ModelError, match=message):
        layers.layers_path(tiny_model(kind, **settings))


def test_a_model_that_does_not_run_on_text_alone_is_refused_in_a_line() -> None:
    with pytest.raises(
        ModelError, match=r"can't be run on text alone .*ValueError: Input language"
    ) as caught:
        layers.layers_path(tiny_model("xmod"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "path", "count"),
    [
        ("longcat_flash", "model.layers", 4),  # its config counts two attentions a layer
        ("openai-gpt", "transformer.h", 4),  # its layers give lists
        ("git", "git.encoder.layer", 4),  # its vision tower is as deep
        ("gemma3", "model.language_model.layers", 4),
        ("granite_swa", "model.layers", 4),  # a list of position embeddings beside
    ],
)
def test_the_layers_are_those_text_passes_through(kind: str, path: str, count: int) -> None:
    model = tiny_model(kind)
    if kind == "gemma3":  # the larger list is the vision tower's
        wide = nn.Linear(512, 512)
        for layer in model.get_submodule("model.vision_tower.encoder.layers"):
            layer.wide = wide
    assert (layers.layers_path(model), layers.n_layers(model), layers.width(model)) == (path, count, 32)


def test_a_change_counts_from_where_it_is_read() -> None:
    """Whatever it is called: LFM2's last norm is its `embedding_norm`; a vision tower is not read at all."""

    def first(kind: str, name: str) -> int | None:
        tuned = tiny_model(kind)
        tuned.get_parameter(name).data += 1
        return pair_models(tiny_model(kind), tuned, tiny_tokenizer()).first_changed_layer

    assert first("lfm2", "model.embedding_norm.weight") is None
    assert first("lfm2", "model.embed_tokens.weight") == 0
    assert first("gpt2", "transformer.wpe.weight") == 0
    assert first("gemma3", "model.vision_tower.post_layernorm.weight") is None
    assert first("gemma3", "model.language_model.layers.1.mlp.down_proj.weight") == 1


@pytest.mark.parametrize(("kind", "most"), [("mpt", 128), ("roberta", 126), ("gpt2", 128), ("opt", 128)])
def test_no_window_is_longer_than_a_model_reads(kind: str, most: int) -> None:
    model = tiny_model(kind)
    assert layers.most_positions(model) == most
    model(torch.ones(1, most, dtype=torch.int64) * 5)


def test_a_model_that_was_only_tried_is_as_it_was_stored() -> None:
    model, plain = tiny_model("rwkv"), tiny_model("rwkv")
    with untouched(model):
        model(IDS, use_cache=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert torch.equal(model(IDS, use_cache=False).logits, plain(IDS, use_cache=False).logits)


def test_watching_leaves_a_model_as_it_was() -> None:
    model = changed_in_layer(tiny_llama(), 2).train()
    before = copy.deepcopy(model.state_dict())
    layers.anatomy(model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
