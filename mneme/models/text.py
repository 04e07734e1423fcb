"""A few token ids to try a model on, where there is no tokenizer yet."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel


def some_ids(model: PreTrainedModel, n: int = 16) -> torch.Tensor:
    """(1, n) ids spread over the vocabulary, without those that stand for pictures, sound or padding."""
    embeddings: Any = model.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    special = {
        value
        for config in (model.config, model.config.get_text_config(decoder=True))
        for key, value in config.to_dict().items()
        if key.endswith(("_token_id", "_token_index", "_token_ids")) and isinstance(value, int)
    }
    ids = [i for i in range(rows) if i not in special] or list(range(rows))
    picked = [ids[(2 * k + 1) * len(ids) // (2 * n)] for k in range(n)]
    return torch.tensor([picked], device=model.device)
