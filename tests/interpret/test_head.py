"""What a direction does to the logits equals the derivative of the model's own norm and head, at any stream."""

from __future__ import annotations

import pytest
import torch
from conformance.architectures import tiny_model
from conformance.checks import against_jacobian

from mneme._util.errors import ModelError
from mneme.interpret.head import reading_head, reading_heads
from mneme.models import layers


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("gpt2", {}),
        ("gemma2", {}),  # a gain stored less 1, logits capped
        ("lfm2", {}),  # its final norm is its embedding_norm
        ("olmo", {}),  # a norm without weights
        ("cohere", {}),  # a norm that centres and is no LayerNorm, logits scaled
        ("cohere2", {}),
        ("granite", {"logits_scaling": 4.0}),
        ("minicpm3", {}),  # a factor before the head
        ("openai-gpt", {}),  # no norm
        ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),  # OPT-350m: a projection
        ("opt", {"word_embed_proj_dim": 16}),
    ],
)
def test_a_head_is_the_derivative_of_norm_and_unembedding(kind: str, settings: dict) -> None:
    model = tiny_model(kind, **settings)
    head = reading_head(model)
    assert head.shape[1] == 32
    assert against_jacobian(head, model, layers.layers_path(model)) < 1e-3


def test_a_gain_is_read_as_it_is_stored() -> None:
    """In bfloat16 too: the lens of a gain alone is the weights' product, to the last bit of float32."""
    model = tiny_model("llama").bfloat16()
    gain, weight = model.model.norm.weight.float(), model.lm_head.weight.float()
    torch.testing.assert_close(reading_head(model), weight * gain, rtol=1e-6, atol=1e-7)


def test_a_head_with_a_layer_of_its_own_gives_no_lens() -> None:
    model = tiny_model("modernbert-decoder")
    with pytest.raises(ModelError, match="no logit lens"):
        reading_head(model)
    assert reading_heads([model, model]) == []


def test_reading_the_head_leaves_the_model_as_it_was() -> None:
    model = tiny_model("cohere")
    ids = torch.arange(20)[None]
    before = model(ids).logits
    reading_head(model)
    assert torch.equal(model(ids).logits, before)
    assert not any("forward" in module.__dict__ for module in model.modules())
