"""One token batch through both models: the residual streams after the layer, and what they predict.

A trace stops at the layer, so the rest of the model is not paid for, except where behaviour is measured. When
the pair shares its first layers, the tuned model starts from what the base computed there (nnsight's skip).
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import torch
from nnsight import TransformersModel

from mneme.models import ModelPair
from mneme.models.layers import residual
from mneme.models.remote import told


class PairOutput(NamedTuple):
    """What both models make of a batch of token ids (rows, tokens)."""

    base: torch.Tensor
    """Residual stream (rows, tokens, d)."""
    tuned: torch.Tensor
    """The same of the tuned model; the same tensor where nothing before differs."""
    base_logits: torch.Tensor | None
    """(rows, tokens, vocabulary), None when the trace stopped at the layer."""
    tuned_logits: torch.Tensor | None


class PairReader:
    """Reads a pair after one layer. `n_shared` layers from the first on are run once for both models."""

    def __init__(self, pair: ModelPair, layer: int, share_layers: bool = True) -> None:
        self.pair, self.layer = pair, layer
        first = pair.n_layers if pair.first_changed_layer is None else pair.first_changed_layer
        self.n_shared = min(first, layer + 1) if share_layers else 0
        if self.n_shared and not self._sharing_is_exact():
            self.n_shared = 0

    def read(self, ids: torch.Tensor, *, logits: bool = False) -> PairOutput:
        """Both models on `ids` (rows, tokens) int64; rows are padded on the right, where no token looks."""
        if self.pair.remote:
            return self._read_remotely(ids)
        ids = ids.to(self.pair.base.device)
        prefix, base, base_logits = self._trace(self.pair.base, ids, None, logits)
        if self.n_shared > self.layer and not logits:
            return PairOutput(residual(base), residual(base), None, None)
        _, tuned, tuned_logits = self._trace(self.pair.tuned, ids, prefix, logits)
        return PairOutput(residual(base), residual(tuned), base_logits, tuned_logits)

    def _read_remotely(self, ids: torch.Tensor) -> PairOutput:
        """The same of models that a server runs: one job a model, and only the streams come back."""
        found = []
        with told(self.pair):
            for model in (self.pair.base, self.pair.tuned):
                layer = reduce(getattr, self.pair.layers_path.split("."), model)[self.layer]
                with model.trace(input_ids=ids, use_cache=False, remote=True) as tracer:
                    kept = layer.output.save()
                    tracer.stop()
                found.append(residual(kept).detach())
        return PairOutput(found[0], found[1], None, None)

    def _trace(
        self, model: TransformersModel, ids: torch.Tensor, prefix: Any, logits: bool
    ) -> tuple[Any, Any, torch.Tensor | None]:
        """(output of the last shared layer, of the layer, logits); `prefix` stands in for the first."""
        layers = reduce(getattr, self.pair.layers_path.split("."), model)
        n_shared, layer, last = self.n_shared, self.layer, self.n_shared - 1
        kept = found = scores = None
        # No attention mask: attention is causal and padding is on the right, so no token of text sees it.
        with torch.no_grad(), model.trace(input_ids=ids, use_cache=False) as tracer:
            if prefix is not None:
                for index in range(n_shared):
                    layers[index].skip(prefix)
            elif n_shared:
                kept = layers[last].output.save()
            if layer != last:
                found = layers[layer].output.save()
            if logits:
                scores = model.output.logits.save()
            else:
                tracer.stop()
        if layer == last:
            found = kept if prefix is None else prefix
        return kept, found, scores

    @torch.no_grad()
    def _sharing_is_exact(self) -> bool:
        """Whether starting the tuned model midway gives what running it whole gives.

        Not so for a decoder whose layers pass on more than the residual stream.
        """
        ids = torch.arange(8).remainder(self.pair.vocab_size)[None]
        shared = self.read(ids, logits=True)
        n_shared, self.n_shared = self.n_shared, 0
        whole = self.read(ids, logits=True)
        self.n_shared = n_shared
        pairs = ((shared.tuned, whole.tuned), (shared.tuned_logits, whole.tuned_logits))
        return all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)
