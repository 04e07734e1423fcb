from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from mneme.interpret.lens import final_norm, logit_lens, reading_head

D, V = 16, 50


class Letters:
    def texts(self, ids) -> list[str]:
        return [f"t{i}" for i in ids]


def make(kind: str, seed: int = 0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": D, "num_hidden_layers": 3, "vocab_size": V, "intermediate_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes, **heads))
    elif kind == "gemma":
        model = Gemma2ForCausalLM(Gemma2Config(**sizes, **heads))
    else:
        model = GPT2LMHeadModel(GPT2Config(n_embd=D, n_layer=3, n_head=2, vocab_size=V))
    norm = final_norm(model)
    with torch.no_grad():
        norm.weight.uniform_(0.3, 1.5)
        if getattr(norm, "bias", None) is not None:
            norm.bias.uniform_(-1, 1)
    return model.eval()


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt2"])
def test_the_folded_head_is_the_models_own_reading(kind: str) -> None:
    """Beside a stream made long by it, a direction moves the real logits as its lens says."""
    model = make(kind)
    direction = torch.randn(D)
    norm = final_norm(model)
    with torch.no_grad():
        size = (direction - direction.mean()).norm() if kind == "gpt2" else direction.norm()
        real = model.get_output_embeddings()(norm(1e3 * direction)) * size / D**0.5
        if kind == "gpt2":
            real = real - model.get_output_embeddings()(norm.bias) * size / D**0.5
    assert torch.allclose(reading_head(model) @ direction, real, atol=1e-3)


def test_tokens_match_a_plain_restatement() -> None:
    models = make("llama"), make("llama", seed=1)
    decoders = torch.randn(2, 7, D)
    table = logit_lens(decoders, [reading_head(m) for m in models], np.array([2, 5]), Letters(), n_tokens=4)
    frame = table.to_pandas()
    assert len(frame) == 2 * 3 * 2 * 4
    scores = {}
    for name, model, decoder in zip(("base", "tuned"), models, decoders, strict=True):
        logits = (decoder * model.model.norm.weight.detach()) @ model.lm_head.weight.detach().T
        scores[name] = (logits - logits.mean(1, keepdim=True)).numpy()
    scores["difference"] = scores["tuned"] - scores["base"]
    for (latent, name, direction), rows in frame.groupby(["latent", "model", "direction"]):
        order = np.argsort(scores[name][latent] * (-1 if direction == "top" else 1))[:4]
        assert rows.token.tolist() == [f"t{i}" for i in order] and rows["rank"].tolist() == [0, 1, 2, 3]
        assert np.allclose(rows.logit, scores[name][latent][order], atol=1e-5)
