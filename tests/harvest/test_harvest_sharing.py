"""What is computed once for both models: equal to running both whole, and dropped where it would not be."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from harvest_settings import CONFIG
from tiny_models import VOCABULARY, changed_in_layer, tiny_llama, tiny_tokenizer

from mneme.corpus import Corpus
from mneme.harvest import harvest
from mneme.harvest.forward import PairReader, started_midway
from mneme.models import ModelPair, pair_models


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_shared_layers_give_what_running_both_models_whole_gives(
    layer: int, pair: ModelPair, corpus: Corpus, tmp_path: Path
) -> None:
    config = replace(CONFIG, layer=layer, max_tokens=300)
    shared = harvest(pair, corpus, config, tmp_path / "shared")
    whole = harvest(pair, corpus, replace(config, share_layers=False), tmp_path / "whole")
    assert (shared.n_shared_layers, whole.n_shared_layers) == (min(2, layer + 1), 0)
    assert torch.equal(shared.read(0, shared.n), whole.read(0, whole.n))
    np.testing.assert_array_equal(shared.kl, whole.kl)
    equal = torch.equal(shared.read(0, shared.n)[:, 0], shared.read(0, shared.n)[:, 1])
    assert equal == (layer < 2)
    differing = (shared.read(0, shared.n)[:, 0] != shared.read(0, shared.n)[:, 1]).any(1)
    assert shared.n_differing == whole.n_differing == int(differing.sum())


def test_sharing_is_dropped_where_more_than_the_residual_stream_flows(pair: ModelPair) -> None:
    def leaky(model: torch.nn.Module) -> torch.nn.Module:
        """Layer 3 also adds what layer 0 gave, as models with cross-layer state do."""
        memory: dict[str, torch.Tensor] = {}
        copied = copy.deepcopy(model)
        first, last = copied.model.layers[0].mlp, copied.model.layers[3].mlp
        first.register_forward_hook(lambda module, args, output: memory.update(x=output))
        last.register_forward_hook(lambda module, args, output: output + memory.get("x", 0))
        return copied

    tuned = changed_in_layer(tiny_llama(), 2)
    first = pair_models(leaky(tiny_llama()), leaky(tuned), tiny_tokenizer())
    assert first.first_changed_layer == 2
    assert PairReader(first, 3).n_shared == 0
    assert PairReader(pair, 3).n_shared == 2


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (["mlp.down_proj"], ("self_attn", "mlp.gate_proj", "mlp.up_proj")),
        (["mlp.up_proj", "mlp.down_proj"], ("self_attn", "mlp.gate_proj")),
        (["self_attn.o_proj"], ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (["self_attn.k_proj", "mlp.down_proj"], ("self_attn.q_proj",)),
        (["post_attention_layernorm"], ("self_attn",)),
        (["input_layernorm"], ()),
    ],
)
def test_of_the_first_changed_layer_only_what_ends_before_the_change_is_shared(
    changed: list[str], parts: tuple[str, ...]
) -> None:
    tuned = copy.deepcopy(tiny_llama())
    for name in changed:
        weight = tuned.model.layers[2].get_submodule(name).weight
        weight.data += 0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    pair = pair_models(tiny_llama(), tuned, tiny_tokenizer())
    reader, whole = PairReader(pair, 3), PairReader(pair, 3, share_layers=False)
    assert (reader.n_shared, reader.parts) == (2, parts)
    assert (whole.n_shared, whole.parts) == (0, ())
    ids = torch.randint(VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
    found, expected = reader.read(ids, logits=True), whole.read(ids, logits=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(found.base, found.tuned)
    assert PairReader(pair, 1).parts == ()  # nothing changed up to there


def test_parts_are_not_shared_where_the_layer_keeps_more_than_it_gives(pair: ModelPair) -> None:
    def recurrent(model: torch.nn.Module) -> torch.nn.Module:
        """The changed layer's attention also hands something to layer 3, past the stream."""
        memory: dict[str, torch.Tensor] = {}
        copied = copy.deepcopy(model)
        copied.model.layers[2].self_attn.o_proj.register_forward_hook(
            lambda module, args, output: memory.update(x=output)
        )
        copied.model.layers[3].mlp.register_forward_hook(
            lambda module, args, output: output + memory.get("x", 0)
        )
        return copied

    tuned = changed_in_layer(tiny_llama(), 2)
    leaky = PairReader(pair_models(recurrent(tiny_llama()), recurrent(tuned), tiny_tokenizer()), 3)
    assert (leaky.n_shared, leaky.parts) == (2, ())
    assert PairReader(pair, 3).parts != ()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError()])
def test_a_model_out_of_memory_is_not_one_that_cannot_start_midway(error: Exception) -> None:
    def fails(error: Exception) -> None:
        raise error

    assert started_midway(lambda: 3) == 3
    assert started_midway(lambda: fails(KeyError("a cache that layer 0 fills"))) is None
    with pytest.raises(type(error)):
        started_midway(lambda: fails(error))
