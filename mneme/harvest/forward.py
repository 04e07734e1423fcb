"""One token batch through both models: the residual streams after the layer, and what they predict.

A trace stops at the layer, so the rest of the model is not paid for, except where behaviour is measured. When
the pair shares its first layers, the tuned model starts from what the base computed there (nnsight's skip), and takes
over what the first changed layer shares too (shared_prefix.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from nnsight import TransformersModel

from mneme._util.memory import is_out_of_memory
from mneme.harvest.shared_prefix import unchanged_parts
from mneme.models import ModelPair
from mneme.models.layers import residual
from mneme.models.remote import told
from mneme.models.traced import handle

_log = logging.getLogger(__name__)

_FEW = 32
Found = TypeVar("Found")


class PairOutput(NamedTuple):
    """What both models make of a batch of token ids (rows, tokens)."""

    base: torch.Tensor
    """Residual stream (rows, tokens, d)."""
    tuned: torch.Tensor
    """The same of the tuned model; the same tensor where nothing before differs."""
    base_logits: torch.Tensor | None
    """(rows, tokens, vocabulary), None when the trace stopped at the layer."""
    tuned_logits: torch.Tensor | None


class Prefix(NamedTuple):
    """What the base computed for both models."""

    stream: Any
    """Output of the last shared layer."""
    parts: tuple[Any, ...]
    """Outputs of the shared parts of the layer after it."""


def started_midway(run: Callable[[], Found]) -> Found | None:
    """What `run` gives, a pass that starts after some layers; None where the model can't start there.

    Whatever a model raises for want of what those layers would have left it means that; running out of memory does not.
    """
    try:
        return run()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        _log.debug("no pass can start midway: every layer is computed", exc_info=True)
        return None


class PairReader:
    """Reads a pair after one layer. `n_shared` layers from the first on are run once for both models, and of the layer
    after them the `parts`."""

    def __init__(self, pair: ModelPair, layer: int, share_layers: bool = True) -> None:
        self.pair, self.layer = pair, layer
        first = pair.n_layers if pair.first_changed_layer is None else pair.first_changed_layer
        self.n_shared = min(first, layer + 1) if share_layers else 0
        self.parts: tuple[str, ...] = ()
        if 0 < self.n_shared <= layer:
            self.parts = unchanged_parts(pair, self.n_shared)
        if self.parts and not self._sharing_is_exact(_FEW):
            self.parts = ()
        if self.n_shared and not self.parts and not self._sharing_is_exact(2 * _FEW):
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
                layer = handle(model, self.pair.layers_path)[self.layer]
                with model.trace(input_ids=ids, use_cache=False, remote=True) as tracer:
                    kept = layer.output.save()
                    tracer.stop()
                found.append(residual(kept).detach())
        return PairOutput(found[0], found[1], None, None)

    def _trace(
        self, model: TransformersModel, ids: torch.Tensor, prefix: Prefix | None, logits: bool
    ) -> tuple[Prefix | None, Any, torch.Tensor | None]:
        """(what is shared, output of the layer, logits); `prefix` stands in for what is shared."""
        layers = handle(model, self.pair.layers_path)
        n_shared, layer, last = self.n_shared, self.layer, self.n_shared - 1
        stream = found = scores = None
        parts = []
        # No attention mask: attention is causal and padding is on the right, so no token of text sees it.
        with torch.no_grad(), model.trace(input_ids=ids, use_cache=False) as tracer:
            if prefix is not None:
                for index in range(n_shared):
                    layers[index].skip(prefix.stream)
                for name, output in zip(self.parts, prefix.parts, strict=True):
                    handle(layers[n_shared], name).skip(output)
            elif n_shared:
                stream = layers[last].output.save()
                for name in self.parts:
                    parts.append(handle(layers[n_shared], name).output.save())
            if layer != last:
                found = layers[layer].output.save()
            if logits:
                scores = model.output.logits.save()
            else:
                tracer.stop()
        if prefix is None and n_shared:
            prefix = Prefix(stream, tuple(parts))
        if layer == last:
            assert prefix is not None
            found = prefix.stream
        return prefix, found, scores

    @torch.no_grad()
    def _sharing_is_exact(self, first_token: int) -> bool:
        """Whether starting the tuned model midway gives what running it whole gives.

        Not so for a decoder whose layers pass on more than the residual stream. On tokens that no call before had, so
        that nothing a model kept of that call stands in for what it was not given.
        """
        ids = self.few_tokens(first_token)
        shared = started_midway(lambda: self.read(ids, logits=True))
        if shared is None:
            return False
        held, self.n_shared, self.parts = (self.n_shared, self.parts), 0, ()
        whole = self.read(ids, logits=True)
        self.n_shared, self.parts = held
        pairs = ((shared.tuned, whole.tuned), (shared.tuned_logits, whole.tuned_logits))
        return all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)

    def few_tokens(self, first: int = 0) -> torch.Tensor:
        """(1, _FEW) token ids from `first` on: a text that shows how the models run."""
        ids = torch.arange(first, first + _FEW, device=self.pair.base.device)
        return ids.remainder(self.pair.vocab_size)[None]
