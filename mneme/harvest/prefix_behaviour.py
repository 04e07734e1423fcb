"""What both models predict on the first tokens of a document, from the streams that the harvest has read anyway.

The layers up to the hookpoint are not run again, and nothing after the last token that is measured: attention is
causal. A document's first tokens tell most of what its predictions tell (docs/method.md), so that the same time
measures more documents.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mneme.harvest.behaviour import Behaviour, compare_predictions
from mneme.harvest.continuation import Continuation


class Prefix(NamedTuple):
    """The start of a window: T tokens, of which the last n are measured (the one before them is BOS)."""

    ids: Tensor
    """(T,) int64."""
    streams: tuple[Tensor, Tensor]
    """(T, d) each, after the layer: base, tuned."""
    following: Tensor
    """(n,) int64: the token after each measured one, -1 for none."""


def measure(continuation: Continuation, group: list[Prefix]) -> list[Behaviour]:
    """(n,) each, in order, of prefixes that are run together."""
    shape = (len(group), max(len(each.ids) for each in group))
    ids, where = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.bool)
    like = group[0].streams[0]
    streams = like.new_zeros(2, *shape, like.shape[-1])
    for row, each in enumerate(group):  # padding is on the right, where no token looks
        length, n = len(each.ids), len(each.following)
        ids[row, :length] = each.ids
        where[row, length - n : length] = True
        for model, stream in enumerate(each.streams):
            streams[model, row, :length] = stream
    models = (continuation.pair.base, continuation.pair.tuned)
    logits = [continuation.logits(m, ids, x, where) for m, x in zip(models, streams, strict=True)]
    said = compare_predictions(logits[0], logits[1], torch.cat([each.following for each in group]))
    sizes = [len(each.following) for each in group]
    return [Behaviour(*parts) for parts in zip(*(values.split(sizes) for values in said), strict=True)]
