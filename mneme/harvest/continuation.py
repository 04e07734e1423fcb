"""A pair's models, run on from a residual stream of one's choice after the layer.

The layers up to there are not run again: nnsight's skip hands the stream on in their place. Logits are made only where
predictions are measured, by cutting the input of the model's output layer down to those tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from nnsight import TransformersModel
from torch import Tensor

from mneme._util.errors import ModelError
from mneme.harvest.forward import PairReader, started_midway
from mneme.models import ModelPair
from mneme.models.layers import layer_of_parameter, residual
from mneme.models.traced import handle


class Continuation:
    """What the models of `reader`'s pair predict when the stream after its layer is another.

    Raises ModelError for a pair whose models a server runs.
    """

    def __init__(self, reader: PairReader) -> None:
        if reader.pair.remote:
            raise ModelError(
                "patching needs the models' weights here, and a server runs this pair: load it locally"
                " (harvest.remote left out)"
            )
        self.reader, self.pair, self.layer = reader, reader.pair, reader.layer
        self.skips = not self._layer_gives_a_tuple()
        self.skips = self.skips and self._skipping_is_exact()
        self.same_tail = self._tails_agree()

    def logits(self, model: TransformersModel, ids: Tensor, stream: Tensor, where: Tensor) -> Tensor:
        """(n, vocabulary) at the n tokens of `where` (R, T), in row order, of a model whose residual stream after
        the layer is `stream` (R, T, d) on `ids` (R, T)."""
        return run_on(self.pair, model, self.layer, ids, stream, where, skips=self.skips)

    @torch.no_grad()
    def _layer_gives_a_tuple(self) -> bool:
        """Whether the next layer is used to more than a stream: then the models are run whole."""
        layers = handle(self.pair.base, self.pair.layers_path)
        with self.pair.base.trace(input_ids=self.reader.few_tokens(), use_cache=False) as tracer:
            output = layers[self.layer].output.save()
            tracer.stop()
        return isinstance(output, tuple | list)

    def _skipping_is_exact(self) -> bool:
        """Whether starting after the layer gives what running the model whole gives."""
        ids = self.reader.few_tokens()
        whole = self.reader.read(ids, logits=True)
        assert whole.base_logits is not None
        where = torch.ones_like(ids, dtype=torch.bool)
        found = started_midway(lambda: self.logits(self.pair.base, ids, whole.base, where))
        return found is not None and torch.equal(found, whole.base_logits[0])

    def _tails_agree(self) -> bool:
        """Whether both models make the same of the same stream: nothing after the layer was changed."""
        found = [layer_of_parameter(name, self.pair.layers_path) for name in self.pair.changed_parameters]
        if any(layer is None or layer > self.layer for layer in found):
            return False
        ids = self.reader.few_tokens()
        stream, where = self.reader.read(ids, logits=False).base, torch.ones_like(ids, dtype=torch.bool)
        one, other = (self.logits(model, ids, stream, where) for model in (self.pair.base, self.pair.tuned))
        return torch.equal(one, other)


@torch.no_grad()
def run_on(
    pair: ModelPair,
    model: TransformersModel,
    layer: int,
    ids: Tensor,
    stream: Tensor,
    where: Tensor,
    *,
    skips: bool,
) -> Tensor:
    """(n, vocabulary) at the n tokens of `where` (R, T), in row order, of one of the pair's models whose residual
    stream after `layer` is `stream` (R, T, d) on `ids` (R, T).

    skips: the layers up to there are not run; else the model is run whole, and the stream put in its place.
    """
    layers = handle(model, pair.layers_path)
    ids, where = ids.to(model.device), where.to(model.device)
    stream = stream.to(model.device, next(model._module.parameters()).dtype)
    head = _output_layer(model)
    with model.trace(input_ids=ids, use_cache=False):
        if skips:
            for index in range(layer + 1):
                layers[index].skip(stream)
        else:
            residual(layers[layer].output)[:] = stream
        if head is not None:
            head.input = head.input[where][None]
        found = model.output.logits.save()
    out: Tensor = found[0] if head is not None else found[where]
    return out


def _output_layer(model: TransformersModel) -> Any:
    """The module that makes logits of the last layer's stream, as nnsight has it; None where there is none."""
    head = model._module.get_output_embeddings()
    for name, module in model._module.named_modules():
        if head is not None and module is head:
            return handle(model, name)
    return None
