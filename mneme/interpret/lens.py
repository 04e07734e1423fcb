"""Logit lens: which next tokens a latent's decoders promote and demote, read through each model's own head.

A decoder direction d_j^m, in raw activation units, goes through the final norm's gain g and the unembedding U
of the model it belongs to: logits = (d_j^m * g) U^T (nostalgebraist 2020). The norm's division by the size of
the stream is left out: it depends on the rest of the stream and scales all tokens alike; a norm that centres
centres d first. Each row is centred over the vocabulary, which softmax ignores: a logit is "against the
average token". `difference` is tuned - base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from mneme.errors import ModelError
from mneme.interpret.tokens import TokenTexts
from mneme.models import layers
from mneme.progress import NULL_PROGRESS, Progress

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

    `decoders` (2, F, d): raw decoders. `heads`: per model (V, d), from `reading_head`.
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


def reading_head(model: nn.Module) -> torch.Tensor:
    """(V, d) float32: the unembedding with the final norm's gain folded in.

    Raises ModelError when the model has no output embedding.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    if head is None:
        raise ModelError(f"{type(model).__name__} has no output embedding: mneme reads language models")
    weight = head.weight.detach().float()
    norm = final_norm(model)
    if norm is None:
        return weight
    weight = weight * _gain(norm)
    # A LayerNorm takes the mean off d before its gain: (d - mean(d)) . w = d . (w - mean(w)).
    return weight - weight.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else weight


def final_norm(model: Any) -> nn.Module | None:
    """The norm between the last layer and the head: a sibling of the layer list, the last one registered."""
    path = layers.layers_path(model)
    parent = model.get_submodule(path.rpartition(".")[0])
    d = layers.width(model)
    found = [
        module
        for name, module in parent.named_children()
        if "norm" in type(module).__name__.lower() or "ln_f" in name or "norm" in name
        if getattr(module, "weight", None) is not None and tuple(module.weight.shape) == (d,)
        if not any(word in name for word in ("emb", "wte", "first", "input"))
    ]
    return found[-1] if found else None


def _gain(norm: nn.Module) -> torch.Tensor:
    """(d,) what the norm multiplies each coordinate by, measured: some (Gemma) store it less 1."""
    weight, bias = norm.weight, getattr(norm, "bias", None)
    assert isinstance(weight, torch.Tensor)
    probe = torch.ones_like(weight)
    probe[1::2] = -1  # of mean 0 and mean square 1: nothing but the gain changes it
    with torch.inference_mode():
        out = norm(probe[None, None]).float()[0, 0]
    if bias is not None:
        out = out - bias.detach().float()
    return out * probe.float()


def _logits(directions: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    logits = directions.to(head.device, torch.float32) @ head.T
    return logits - logits.mean(-1, keepdim=True)
