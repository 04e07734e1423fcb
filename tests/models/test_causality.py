"""What is no causal decoder is refused, by its config before the weights are read, or by trying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conformance.architectures import tiny_model
from tiny_models import save, tiny_llama, tiny_tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from mneme._util.errors import ModelError
from mneme.models import load_model, load_pair, load_tokenizer, pair_models
from mneme.models.causality import check_causal

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
XLNET: dict[str, Any] = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "vocab_size": 64}
T5: dict[str, Any] = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}


def model(kind: str, **settings: Any) -> Any:
    """A random model of the class that transformers takes for causal."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


@pytest.mark.parametrize(
    "made",
    [lambda: BertForMaskedLM(BertConfig(**SMALL)), lambda: RobertaForMaskedLM(RobertaConfig(**SMALL))],
    ids=["bert", "roberta"],
)
def test_encoders_are_refused_before_their_weights_are_read(made: Any, tmp_path: Path) -> None:
    spec = save(made(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match=r"is an encoder .*reads text both ways") as caught:
        load_model(spec, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "made",
    [
        lambda: T5ForConditionalGeneration(T5Config(**T5)),
        lambda: BartForConditionalGeneration(
            BartConfig(
                vocab_size=64,
                d_model=16,
                encoder_layers=1,
                decoder_layers=1,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
            )
        ),
    ],
    ids=["t5", "bart"],
)
def test_encoder_decoders_are_called_so(made: Any, tmp_path: Path) -> None:
    spec = save(made(), tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        load_model(spec, device="cpu")


def test_a_bert_that_is_a_decoder_is_read(tmp_path: Path) -> None:
    spec = save(model("bert", is_decoder=True, **SMALL), tmp_path / "model")
    assert load_model(spec, device="cpu").config.is_decoder


@pytest.mark.parametrize("kind", ["bert", "xlnet"])
def test_a_model_that_looks_ahead_is_found_by_trying(kind: str) -> None:
    looks_ahead = model(kind, **(XLNET if kind == "xlnet" else SMALL))
    with pytest.raises(ModelError, match="reads text both ways"):
        check_causal(looks_ahead, "it")


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "mixtral", "gemma2", "mamba", "falcon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoders_are_read_in_any_precision(kind: str, dtype: torch.dtype) -> None:
    more: dict[str, dict[str, int]] = {
        "gemma2": {"head_dim": 8, "num_key_value_heads": 1},
        "mixtral": {"num_key_value_heads": 1, "num_local_experts": 4},
    }
    check_causal(model(kind, **SMALL, **more.get(kind, {})).to(dtype), "it")


def test_a_model_that_cannot_read_plain_text_is_told_in_one_line() -> None:
    broken = tiny_llama()
    broken.model.layers[0].mlp.down_proj.weight.data = torch.ones(3, 3)
    with pytest.raises(ModelError, match="can't read plain text") as caught:
        check_causal(broken, "it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[1]", "must hold a JSON object"),
        ("{", "can't be read as JSON"),
        ('{"model_type": "next"}', "config of"),
    ],
)
def test_a_config_that_is_none_is_told_in_one_line(config: str, told: str, tmp_path: Path) -> None:
    spec = save(tiny_llama(), tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(config)
    with pytest.raises(ModelError, match=told) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["base", "tuned"])
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: BertForMaskedLM(BertConfig(**SMALL)), "is an encoder"),
        (lambda: T5ForConditionalGeneration(T5Config(**T5)), "is an encoder-decoder"),
        (lambda: model("xlnet", **XLNET), "a token's prediction depends on the tokens after it"),
    ],
    ids=["bert", "t5", "xlnet"],
)
def test_models_in_memory_are_refused_with_the_line_of_those_on_disk(
    made: Any, told: str, place: str, tmp_path: Path
) -> None:
    pair = {name: save(tiny_llama(), tmp_path / name, tiny_tokenizer()) for name in ("base", "tuned")}
    held = {"base": tiny_llama(), "tuned": tiny_llama(), place: made()}
    pair[place] = save(held[place], tmp_path / "other", tiny_tokenizer())
    with pytest.raises(ModelError, match=told) as on_disk:
        load_pair(pair["base"], pair["tuned"], dtype="float32", device="cpu")
    with pytest.raises(ModelError) as in_memory:
        pair_models(
            held["base"], held["tuned"], tiny_tokenizer(), base_id=pair["base"], tuned_id=pair["tuned"]
        )
    assert str(in_memory.value) == str(on_disk.value) and "\n" not in str(in_memory.value)


def test_a_model_whose_attention_was_opened_in_memory_is_found() -> None:
    opened = tiny_llama()
    opened.config._attn_implementation = "eager"
    for layer in opened.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda _m, args, kwargs: (args, {**kwargs, "attention_mask": None}), with_kwargs=True
        )
    with pytest.raises(ModelError, match=r"^mine \(LlamaForCausalLM\) reads text both ways"):
        pair_models(tiny_llama(), opened, tiny_tokenizer(), tuned_id="mine")


def test_dropout_and_caches_are_not_taken_for_looking_ahead(tmp_path: Path) -> None:
    """mneme reads without either: a model left in training mode, and one that can't make its cache for two texts."""
    trained = tiny_model("gpt2").train()
    pair_models(trained, tiny_model("gpt2"), tiny_tokenizer())
    assert trained.training
    spec = save(tiny_model("xlstm"), tmp_path / "model")
    assert load_model(spec, device="cpu").config.model_type == "xlstm"


def test_code_that_comes_with_a_model_runs_only_when_asked_for(own_code: str) -> None:
    for load in (load_model, load_tokenizer):
        with pytest.raises(ModelError, match=r"models\.trust_remote_code=true"):
            load(own_code)
    assert type(load_model(own_code, device="cpu", trust_remote_code=True)).__name__ == "OwnForCausalLM"
    assert type(load_tokenizer(own_code, trust_remote_code=True)).__name__ == "OwnTokenizer"
