"""Only causal decoders can be read: what a token's stream holds may not depend on what comes after it.

mneme fills batches up on the right without a mask, cuts texts into windows and runs models on from a stream; each
of these is right only where no token looks ahead. What the config tells is refused before any weights are read;
what it doesn't is found by changing the last token of a text.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from mneme._util.errors import ModelError, first_line
from mneme.models.observe import evaluating, untouched
from mneme.models.text import some_ids

# Encoders whose causal class reads both ways unless `is_decoder` is set; GPT-NeoX has the setting and ignores it.
_ENCODERS = frozenset(
    {"bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"}
    | {"reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta"}
    | {"xlm-roberta-xl", "xmod"}
)
_FIX = "mneme compares causal decoders (Llama, Qwen, Gemma, GPT-NeoX, ...)"
# Of the spread of the logits; a model that looks ahead is off by far more, rounding by far less.
_TOLERANCE = {torch.float32: 1e-3}
_COARSE = 0.05


def check_config(config: PreTrainedConfig, spec: str) -> None:
    """Raises ModelError for encoder-decoders and encoders."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{spec} is an encoder-decoder ({config.model_type}): {_FIX}")
    both_ways = config.model_type in _ENCODERS and not getattr(config, "is_decoder", False)
    if both_ways or (config.model_type == "xlm" and not getattr(config, "causal", False)):
        raise ModelError(f"{spec} is an encoder ({config.model_type}), which reads text both ways: {_FIX}")


@torch.no_grad()
def check_causal(model: PreTrainedModel, spec: str) -> None:
    """Raises ModelError when the model can't read plain text, or its predictions depend on what comes after them."""
    ids = some_ids(model, 9)
    texts = torch.stack([ids[0, :8], torch.cat([ids[0, :7], ids[0, 8:]])])
    try:
        # Without a cache, as mneme reads: making one is where some models fail.
        with untouched(model), evaluating(model):
            logits = _logits(model(input_ids=texts, use_cache=False))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        raise ModelError(
            f"{spec} ({type(model).__name__}) can't read plain text ({first_line(error)}): {_FIX}"
        ) from error
    if not bool(logits.isfinite().all()):
        return  # the harvest tells, with the text at hand
    moved = (logits[0, :-1] - logits[1, :-1]).abs().max() / logits.std().clamp(min=1e-12)
    if float(moved) > _TOLERANCE.get(model.dtype, _COARSE):
        raise ModelError(
            f"{spec} ({type(model).__name__}) reads text both ways: a token's prediction depends on the tokens after"
            f" it; {_FIX}"
        )


def _logits(output: Any) -> torch.Tensor:
    found: torch.Tensor = (output.logits if hasattr(output, "logits") else output[0]).float()
    return found
