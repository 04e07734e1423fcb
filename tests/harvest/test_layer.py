"""The layer that is read can show the change; where none can, that is said."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme._util.errors import ActivationError, ConfigError, PairError
from mneme.corpus import Corpus, Document
from mneme.harvest import ActivationCache, HarvestConfig, check_layer, harvest
from mneme.harvest.layer import check_streams, choose_layer
from mneme.models import ModelPair, pair_models


def pair_changed_in(*names: str) -> ModelPair:
    """A pair of four layers whose tuned model differs in these parameters."""
    tuned = copy.deepcopy(tiny_llama())
    for name in names:
        tuned.get_parameter(name).data += 0.5
    return pair_models(tiny_llama(), tuned, tiny_tokenizer(), base_id="org/before", tuned_id="org/after")


def checked(pair: ModelPair, layer: int | None) -> int:
    """The layer that would be read without a profile; None: chosen by mneme."""
    config = HarvestConfig(layer="auto" if layer is None else layer)
    check_layer(config, pair)
    return choose_layer(config, pair, None).layer


@pytest.mark.parametrize(
    ("changed", "default"),
    [
        ("model.embed_tokens.weight", 1),
        ("model.layers.0.mlp.up_proj.weight", 1),
        ("model.layers.1.mlp.up_proj.weight", 1),
        ("model.layers.2.self_attn.q_proj.weight", 2),
        ("model.layers.3.input_layernorm.weight", 3),
    ],
)
def test_a_layer_before_the_first_change_is_refused_and_the_first_useful_one_named(
    changed: str, default: int
) -> None:
    pair = pair_changed_in(changed, "model.norm.weight", "model.layers.3.mlp.down_proj.weight")
    first = pair.first_changed_layer
    assert first is not None and checked(pair, None) == default >= first
    for layer in range(first, 4):
        assert checked(pair, layer) == layer
    for layer in range(first):
        with pytest.raises(ConfigError) as told:
            checked(pair, layer)
        assert f"layer {layer} can't show" in str(told.value) and f"--layer {first} to 3" in str(told.value)
        assert "to have one chosen" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("layer", [4, 99])
def test_a_layer_out_of_range_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"layer {layer} is out of range: org/before has 4 .* give 0 to 3"):
        checked(pair_changed_in("model.layers.2.mlp.up_proj.weight"), layer)


@pytest.mark.parametrize("layer", [None, 0, 3])
def test_a_change_after_the_last_layer_is_said_to_be_out_of_sight(layer: int | None) -> None:
    pair = pair_changed_in("lm_head.weight", "model.norm.weight")
    with pytest.raises(PairError, match=r"\(model\.norm\.weight, lm_head\.weight\) reaches no layer"):
        checked(pair, layer)


@pytest.mark.parametrize("layer", [None, 0, 3])
def test_identical_models_are_said_to_be_identical(layer: int | None) -> None:
    with pytest.raises(PairError, match="identical models: org/after has the weights"):
        checked(pair_changed_in(), layer)


def test_models_of_other_settings_are_not_identical() -> None:
    config = tiny_llama().config
    other = copy.deepcopy(tiny_llama())
    other.config.rope_parameters = {**config.rope_parameters, "rope_theta": 5e5}
    assert checked(pair_models(tiny_llama(), other, tiny_tokenizer()), None) == 1


def test_a_pair_changed_everywhere_may_be_read_anywhere() -> None:
    pair = pair_models(tiny_llama(), changed_in_layer(tiny_llama(1), 2), tiny_tokenizer())
    assert [checked(pair, layer) for layer in range(4)] == [0, 1, 2, 3]


def test_streams_equal_on_all_the_text_are_told_also_of_a_harvest_that_did_not_count(tmp_path: Path) -> None:
    pair = pair_changed_in("model.layers.2.mlp.up_proj.weight")
    corpus = Corpus.of([Document("a river and a king and a cat " * 9)], "text")
    for layer in (1, 2):
        config = HarvestConfig(layer=layer, min_tokens=10, behaviour_share=0)
        cache = harvest(pair, corpus, config, tmp_path / str(layer))
        index = json.loads((cache.folder / "index.json").read_text())
        for entry in index["shards"]:  # as earlier versions wrote it
            del entry["n_differing"]
        (cache.folder / "index.json").write_text(json.dumps(index))
        for told in (cache, ActivationCache(cache.folder)):
            if layer == 1:
                with pytest.raises(
                    ActivationError, match=r"after layer 1 are equal in both models on all [\d,]+ tok"
                ):
                    check_streams(told)
            else:
                check_streams(told)
