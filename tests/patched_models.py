"""A tiny pair, a dictionary made by hand, made-up documents, and patching by plain forward hooks to compare with."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from tiny_models import tiny_llama, tiny_tokenizer

from mneme.models.pair import pair_models

sys.path.insert(0, str(Path(__file__).parent / "attribution"))

LAYER, WIDTH = 2, 16


def edited_along(direction, layer=LAYER):
    """Base, and a copy whose down_proj of a layer writes, beside its own, along `direction` (d,): a rank-one edit."""
    base = tiny_llama()
    tuned = copy.deepcopy(base)
    weight = tuned.model.layers[layer].mlp.down_proj.weight  # (d, inner)
    reads = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(3))
    weight.data += torch.outer(direction, reads)
    return base, tuned


def pair_of(base, tuned):
    return pair_models(base, tuned, tiny_tokenizer())


def cache_of(tokens, skipped=()):
    """Documents (lists of ids); `skipped`: (document, position) that the harvest left out."""
    rows = [(d, p) for d, ids in enumerate(tokens) for p in range(len(ids)) if (d, p) not in set(skipped)]
    document, position = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    return SimpleNamespace(
        layer=LAYER,
        n_documents=len(tokens),
        document=document,
        position=position,
        document_tokens=lambda d: np.asarray(tokens[d], dtype=np.int32),
    )


def made_up(n=6, length=14, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 200, length + d % 3).tolist() for d in range(n)]


def streams_by_hook(model, ids, layer=LAYER):
    """(T, d) after the layer."""
    kept = []
    handle = model.model.layers[layer].register_forward_hook(lambda m, a, out: kept.append(out.clone()))
    model(input_ids=torch.tensor([ids]))
    handle.remove()
    return kept[0][0]


def logp_by_hook(model, ids, stream=None, layer=LAYER):
    """(T, V) log-probabilities with the stream (T, d) in place of the layer's output."""
    handle = model.model.layers[layer].register_forward_hook(
        lambda m, a, out: out if stream is None else stream[None].clone()
    )
    logits = model(input_ids=torch.tensor([ids])).logits[0].float()
    handle.remove()
    return logits.log_softmax(-1)


def compared_by_hand(first, second, ids, measured):
    """Sums of KL(first || second) and of the NLL's difference over the positions `measured` of ids with BOS."""
    at = torch.tensor(measured)
    following = torch.tensor(ids)[at + 1]
    kl = (first[at].exp() * (first[at] - second[at])).sum(-1)
    nll = first[at].gather(1, following[:, None]) - second[at].gather(1, following[:, None])
    return [float(kl.sum()), float(nll.sum())]
