"""Logit lens: which next tokens per latent's decoders promote and demote, read through each model's own head.

A decoder direction d_j^m, in raw activation units, goes through what lies between the last layer and the logits of the
model it belongs to, made linear (head.py): with a final norm's gain g and the unembedding U, logits = (d_j^m * g) U^T
(nostalgebraist 2020). Each row is centred over the vocabulary, which softmax ignores: a logit is "against the
average token". `difference` is tuned - base.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.tokens import TokenTexts

_CHUNK = 2**24  # logits held at once, a model: 64 MB
NAMES = ("base", "tuned", "difference")


def logit_lens(
    decoders: torch.Tensor,
    heads: Sequence[torch.Tensor],
    latents: np.ndarray,
    texts: TokenTexts,
    *,
    n_tokens: int = 10,
    progress: Progress = NULL_PROGRESS,
) -> pa.Table:
    """Top and bottom tokens of the given latents: the rows of the run's `logit_lens` table.

    `decoders` (2, F, d): raw decoders. `heads`: per model (V, d), from `reading_head` (head.py).
    """
    vocabulary = min(head.shape[0] for head in heads)
    n_tokens = min(n_tokens, vocabulary // 2)
    ids = np.empty((len(latents), 3, 2, n_tokens), dtype=np.int64)
    logits = np.empty(ids.shape, dtype=np.float32)
    size = max(1, _CHUNK // vocabulary)
    with progress.task("logit lens", total=len(latents), unit="latents") as task:
        for begin in range(0, len(latents), size):
            chosen = torch.from_numpy(np.asarray(latents[begin : begin + size], dtype=np.int64))
            base, tuned = (_logits(decoders[m, chosen], heads[m][:vocabulary]) for m in (0, 1))
            for which, scores in enumerate((base, tuned, tuned - base)):
                for end, largest in enumerate((True, False)):
                    best = scores.topk(n_tokens, dim=-1, largest=largest)
                    here = slice(begin, begin + len(chosen))
                    ids[here, which, end], logits[here, which, end] = best.indices.cpu(), best.values.cpu()
            task.advance(len(chosen))
    unique, where = np.unique(ids, return_inverse=True)

    def along(axis: int) -> pa.Array:
        return pa.array(
            np.broadcast_to(np.indices(ids.shape, np.int32, sparse=True)[axis], ids.shape).ravel()
        )

    return pa.table(
        {
            "latent": pa.array(np.asarray(latents, dtype=np.int32)).take(along(0)),
            "model": pa.array(NAMES).take(along(1)),
            "direction": pa.array(["top", "bottom"]).take(along(2)),
            "rank": along(3),
            "token": pa.array(texts.texts(unique), pa.string()).take(pa.array(where.ravel())),
            "logit": logits.ravel(),
        }
    )


def _logits(directions: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    logits = directions.to(head.device, torch.float32) @ head.T
    return logits - logits.mean(-1, keepdim=True)
