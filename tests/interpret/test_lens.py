from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mneme.interpret.head import reading_head
from mneme.interpret.lens import logit_lens

D, V = 16, 50


class Letters:
    def texts(self, ids) -> list[str]:
        return [f"t{i}" for i in ids]


def make(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = {"hidden_size": D, "num_hidden_layers": 3, "vocab_size": V, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2, head_dim=8))
    with torch.no_grad():
        model.model.norm.weight.uniform_(0.3, 1.5)
    return model.eval()


def test_tokens_match_a_plain_restatement() -> None:
    models = make(), make(seed=1)
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
