"""What the two models predict at a token, compared: KL divergence and next-token surprise, in nats."""

from __future__ import annotations

from typing import NamedTuple

import torch

# float32 elements of a model held at once. About 10 rows of a 49k vocabulary stay in a processor's cache from one pass
# over them to the next; a GPU needs more to be busy.
_CHUNK = 2**19
_GPU_CHUNKS = 32


class Behaviour(NamedTuple):
    """Per token, (n,) float32."""

    kl: torch.Tensor
    """KL(base || tuned) of the next-token distributions."""
    nll_base: torch.Tensor
    """-log p_base(next token); NaN where there is no next token."""
    nll_tuned: torch.Tensor


def compare_predictions(
    base_logits: torch.Tensor, tuned_logits: torch.Tensor, following: torch.Tensor
) -> Behaviour:
    """Compare logits (n, vocabulary) of both models; `following` (n,) int64 is the next token, -1 for none.

    Softmaxes are in float32, a few rows at a time, over the vocabulary that both have.
    """
    n, vocabulary = base_logits.shape[0], min(base_logits.shape[1], tuned_logits.shape[1])
    following = following.to(base_logits.device)
    result = torch.full((3, n), torch.nan, device=base_logits.device)
    size = _CHUNK if base_logits.device.type == "cpu" else _CHUNK * _GPU_CHUNKS
    rows = max(1, size // vocabulary)
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        base = base_logits[part, :vocabulary].float().log_softmax(-1)
        tuned = tuned_logits[part, :vocabulary].float().log_softmax(-1)
        target = following[part]
        picked = target.clamp(min=0)[:, None]
        for row, log_p in ((1, base), (2, tuned)):
            nll = -log_p.gather(1, picked)[:, 0]
            result[row, part] = nll.masked_fill(target < 0, torch.nan)
        difference = torch.sub(base, tuned, out=tuned)
        # Rounding may give -1e-8 for equal distributions.
        result[0, part] = torch.linalg.vecdot(base.exp_(), difference).clamp(min=0)
    return Behaviour(*result.cpu())
