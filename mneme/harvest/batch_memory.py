"""What a forward pass of a pair holds in memory, from its sizes alone."""

from __future__ import annotations

from torch import nn

from mneme._util.memory import fitting, gigabytes, usable_bytes
from mneme.harvest.config import HarvestConfig
from mneme.models import ModelPair

# Elements of one model's logits held at once, 134 MB in bfloat16. Twice as many: 3% faster on a CPU, for twice that.
LOGITS = 2**26


def weight_bytes(*models: nn.Module) -> int:
    """Parameters and buffers, what models share counted once."""
    tensors = [t for model in models for t in (*model.parameters(), *model.buffers())]
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def bytes_a_token(model: nn.Module) -> int:
    """Of one layer at a time: the stream and its norm, queries, keys, values, output, the MLP; no gradients.

    And what is kept for the other model: the streams, at most the attention and two products of a layer.
    """
    config = model.config.get_text_config()  # type: ignore[operator,union-attr]  # nn.Module: any attribute
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    item = next(model.parameters()).element_size()
    kept = 3 * config.hidden_size + 2 * inner
    found: int = (kept + 8 * config.hidden_size + 3 * inner) * item
    return found


def reading_advice(pair: ModelPair, layer: int, config: HarvestConfig) -> str:
    """One line: what a batch needs, what there is, and the largest batch that fits."""
    base, tuned = pair.base._module, pair.tuned._module
    usable, weights, each = usable_bytes(base.device), weight_bytes(base, tuned), bytes_a_token(base)
    logits = LOGITS * 2 * next(base.parameters()).element_size() if config.behaviour_share > 0 else 0
    tokens = fitting(usable - weights - logits, each, config.batch_tokens)
    fix = (
        f"lower harvest.batch_tokens to {tokens}"
        if tokens >= config.context_length
        else f"lower harvest.batch_tokens and harvest.context_length (now {config.context_length}), set"
        " harvest.behaviour_share to 0, or use a device with more memory"
    )
    return (
        f"out of memory on {base.device}: both models take {gigabytes(weights)}, {config.batch_tokens:,} tokens up to"
        f" layer {layer} about {gigabytes(config.batch_tokens * each + logits)} more, about {gigabytes(usable)} can be"
        f" had: {fix}"
    )
