"""Patch one model's stream, let it predict, and compare the pair's predictions again: sums over each document's tokens.

For tokens t and models B (base) and T (tuned), one of them patched or none,

    kl  = sum_t KL(B_t || T_t)                nll = sum_t (-log T_t(next) + log B_t(next))

in nats. An ablation is compared with the same model left alone instead: B the model, T the model ablated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme.harvest.behaviour import compare_predictions
from mneme.harvest.continuation import Continuation
from mneme.harvest.text import Text

BASE, TUNED = 0, 1
MODELS = ("base", "tuned")
UNPATCHED = ("none", "none")


class Patch(NamedTuple):
    """A stream in place of a model's own."""

    patch: str
    """undo (in the tuned model), do (in the base), ablate base, ablate tuned."""
    source: str
    """What is patched: the latents, a control, or the whole of what could be."""
    model: int
    stream: Tensor
    """(R, T, d)."""


class Streams(NamedTuple):
    """Both models' residual streams (R, T, d) on a text."""

    base: Tensor
    tuned: Tensor


class Sums(NamedTuple):
    """What was measured, document by document."""

    document: np.ndarray
    """(D,)."""
    n_tokens: np.ndarray
    """(D,): predictions compared."""
    weight: np.ndarray
    """(D,): how many documents each stands for."""
    values: dict[tuple[str, str], np.ndarray]
    """(patch, source) -> (D, 2): sums of kl and nll; UNPATCHED has the pair as it is."""


def measure(continuation: Continuation, text: Text, streams: Streams, patches: Iterable[Patch]) -> Sums:
    """Both models as they are, and with each patch; windows of one document are added up."""
    models = (continuation.pair.base, continuation.pair.tuned)
    own = [
        continuation.logits(model, text.ids, stream, text.measured)
        for model, stream in zip(models, streams, strict=True)
    ]
    found = {UNPATCHED: _compared(own[BASE], own[TUNED], text)}
    for patch in patches:
        if continuation.same_tail and patch.stream is streams[1 - patch.model]:
            logits = own[1 - patch.model]  # the other model's stream through the same layers
        else:
            logits = continuation.logits(models[patch.model], text.ids, patch.stream, text.measured)
        if patch.patch.startswith("ablate"):
            pair = (own[patch.model], logits)
        else:
            pair = (logits, own[TUNED]) if patch.model == BASE else (own[BASE], logits)
        found[patch.patch, patch.source] = _compared(*pair, text)
    counts = np.bincount(text.row.numpy(), minlength=len(text.documents))
    document, place = np.unique(text.documents, return_inverse=True)
    totals = {key: _added(place, values, len(document)) for key, values in found.items()}
    n_tokens = _added(place, counts[:, None].astype(np.float64), len(document))[:, 0]
    return Sums(document, n_tokens, np.ones(len(document)), totals)


def joined(parts: Iterable[Sums]) -> Sums:
    """Sums of several texts as one; a document may be in more than one. At least one part."""
    held = list(parts)
    document, place = np.unique(np.concatenate([part.document for part in held]), return_inverse=True)
    n = np.concatenate([part.n_tokens for part in held])[:, None]
    values = {
        key: _added(place, np.concatenate([part.values[key] for part in held]), len(document))
        for key in held[0].values
    }
    weight = np.ones(len(document))
    weight[place] = np.concatenate([part.weight for part in held])  # a document has one
    return Sums(document, _added(place, n, len(document))[:, 0], weight, values)


def _compared(first: Tensor, second: Tensor, text: Text) -> np.ndarray:
    """(R, 2): sums over a window's measured tokens of KL and of the NLL's difference."""
    said = compare_predictions(first, second, text.following)
    values = torch.stack([said.kl, said.nll_tuned - said.nll_base], dim=1).double()
    out = torch.zeros(len(text.documents), 2, dtype=torch.float64)
    return out.index_add_(0, text.row, values).numpy()


def _added(place: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Rows of the same place added up: (n, C)."""
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, place, values)
    return out
