"""Read-out dictionaries: a sparse dictionary of one model's activations, read on each model by itself.

A crosscoder's latent has one activation for both models. Where the tuned model stops using a feature and does something
else on the same tokens, one latent takes both, and nothing tells of the stop. A read-out dictionary (crosscoder.variant
"base" or "tuned") is trained on the activations of that model alone and reads each model's stream with the same
encoder:

    f^m = relu(normalise_m(x^m) W_enc + b_enc), where it exceeds the threshold        m in {base, tuned}

Its training is the crosscoder's, of the model with itself: both halves see the same activations, start alike and stay
alike, at the price of a crosscoder of as many latents. Each model has its own normaliser, as in a crosscoder.

Letters: B tokens, d width, F latents, n active pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from mneme.crosscoder.config import READ_OUT
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.protocols import Source


class Mirrored:
    """A source whose batches hold one model's activations twice."""

    def __init__(self, source: Source, model: int) -> None:
        """model: 0 base, 1 tuned."""
        self._source, self._model = source, model
        self.n, self.width = source.n, source.width

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """(<= size, 2, d) raw batches, as the source's."""
        order = {"part": part} if part != (0, 1) else {}
        for x in self._source.batches(size, shuffle=shuffle, seed=seed, **order):
            yield x[:, [self._model, self._model]]


def training_source(source: Source, variant: str) -> Source:
    """What a dictionary of this variant is trained on."""
    return Mirrored(source, READ_OUT.index(variant)) if variant in READ_OUT else source


def for_both_models(crosscoder: Crosscoder, source: Source) -> Crosscoder:
    """A trained read-out dictionary with halves that are equal to the bit, and each model's own normaliser."""
    for weight in (crosscoder.W_enc, crosscoder.W_dec, crosscoder.b_dec):
        weight.copy_(weight.mean(0, keepdim=True).expand_as(weight))
    return crosscoder.with_normaliser(source)
