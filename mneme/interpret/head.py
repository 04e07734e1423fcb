"""What a direction in the stream after the last layer does to the logits: the model's own tail, made linear.

Between the last layer and the head lie a norm in most decoders, a projection in some, a constant factor before or after
the head in others. None is known by name here: the tail is run on chosen streams, the layers left out. It is

- linear, and its map is read off the d unit vectors; or
- a norm: linear but for the division by the stream's size, its root mean square or (of a norm that centres) its
  standard deviation. That division is left out, as the logit lens does: it depends on the rest of the stream and
  scales all tokens alike.

After the head, what is done to each logit (a factor, a soft cap) counts with its slope at 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.models import layers
from mneme.models.observe import Observation, evaluating, observe, probe_ids, standing_in

_SIZE = 100.0  # root mean square of the streams that are tried: beside it no norm's epsilon counts
_CLOSE = 1e-2  # of a map's size: what may be left over, with half-precision parts in it
_SMALL = 1e-3  # logits where every soft cap is linear


class _Reached(Exception):  # noqa: N818 - no error
    """The head was reached, with this input."""

    def __init__(self, given: Tensor) -> None:
        self.given = given


def reading_head(model: PreTrainedModel) -> Tensor:
    """(V, d) float32: logits a unit of each coordinate of the last layer's stream adds, its size held.

    Raises ModelError when the model has no output embedding, or its tail is neither linear nor a norm and a linear map.
    """
    return Tail(model).linear()


def reading_heads(models: Sequence[PreTrainedModel], progress: Progress = NULL_PROGRESS) -> list[Tensor]:
    """Each model's head; none where one has no such head (ModernBERT's has a layer of its own), which is told."""
    try:
        return [reading_head(model) for model in models]
    except ModelError as error:
        with progress.task("logit lens", total=None) as task:
            task.note(str(error))
        return []


class Tail:
    """A decoder's final norm and head, to be run by themselves."""

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.name = model, type(model).__name__
        head: Any = model.get_output_embeddings()
        seen = observe(model)
        self.width = layers.anatomy(model, seen).width
        calls = layers.layer_calls(seen, layers.layers_path(model))
        names = {module: name for name, module in model.named_modules()}
        at = next((c for c in seen.calls if head is not None and c.module == names.get(head)), None)
        if at is None or at.begin < calls[-1].end or getattr(head, "weight", None) is None:
            raise ModelError(
                f"{self.name} has no output embedding that its last layer leads to: no logit lens"
            )
        self.head: nn.Module = head
        self._made = {model.get_submodule(call.module): call.made for call in calls}
        self._last = model.get_submodule(calls[-1].module)
        between = _between(seen, calls[-1].end, at.begin)
        # In float32, so that a gain is read as it is stored.
        self._exact = {m: copy.deepcopy(m).float() for m in map(model.get_submodule, between)}
        self.device = probe_ids(model).device

    @torch.no_grad()
    def linear(self) -> Tensor:
        """(V, d), as `reading_head` says."""
        weight: Any = self.head.weight
        weight = weight.detach().float()
        if weight.ndim != 2:
            raise ModelError(f"the output embedding of {self.name} is no matrix: no logit lens")
        return self._slope(weight.shape[0]) * _product(weight, self._map())

    @torch.no_grad()
    def before_head(self, streams: Tensor) -> Tensor:
        """(n, d) streams after the last layer -> (n, d') what the head is given."""
        ids = probe_ids(self.model)
        found = []
        for part in streams.to(self.device, torch.float32).split(ids.numel()):
            stream = streams.new_zeros(*ids.shape, self.width, device=self.device, dtype=torch.float32)
            stream.view(-1, self.width)[: len(part)] = part
            try:
                self._run(stream, _reach)
            except _Reached as reached:
                found.append(reached.given.float().reshape(ids.numel(), -1)[: len(part)])
        if not found:
            raise ModelError(f"{self.name} never comes to its output embedding: no logit lens")
        return torch.cat(found)

    def _run(self, stream: Tensor | None, head: Any) -> Any:
        """The model's output, its layers giving what they gave, the last one `stream`; `head` for its head."""
        stands = {module: _gives(made) for module, made in self._made.items()}
        if stream is not None:
            stands[self._last] = _gives(_with_stream(self._made[self._last], stream))
        stands |= {**self._exact, self.head: head}
        with standing_in(stands), evaluating(self.model):
            return self.model(input_ids=probe_ids(self.model), use_cache=False)

    def _map(self) -> Tensor:
        """(d', d): the tail's linear part, up to the head."""
        generator = torch.Generator().manual_seed(0)
        tried = _SIZE * torch.randn(4, self.width, generator=generator)
        given = self.before_head(torch.cat([tried, -tried, 2 * tried]))
        once, other, twice = given.split(len(tried))
        constant = ((once + other) / 2).mean(0)
        once, twice = once - constant, twice - constant
        sizes = _sizes_like(once, twice)
        if sizes is None:
            raise ModelError(f"the final norm of {self.name} is none that mneme knows: no logit lens")
        units = _SIZE * self.width**0.5 * torch.eye(self.width)
        columns = self.before_head(units) - constant
        misses = []
        for size in sizes:
            found = columns * size(units).to(columns.device) / (_SIZE * self.width**0.5)
            expected = once * size(tried).to(once.device)
            miss = tried.to(found.device) @ found - expected
            misses.append((float(miss.norm() / expected.norm()), found))
        miss, found = min(misses, key=lambda each: each[0])
        if not miss < _CLOSE:
            raise ModelError(
                f"what {self.name} does before its head is no norm and linear map: no logit lens (off by {miss:.0%})"
            )
        out: Tensor = found.T
        return out

    def _slope(self, vocabulary: int) -> float:
        """What a small logit is multiplied by after the head."""
        generator = torch.Generator().manual_seed(0)
        ids = probe_ids(self.model)
        small = _SMALL * torch.randn(*ids.shape, vocabulary, generator=generator).to(ids.device)
        up, down = (
            self._run(None, _gives(sign * small)).logits.float().reshape(-1, 1, vocabulary)[:, 0]
            for sign in (1, -1)
        )
        odd, small = (up - down) / 2, small.reshape(-1, vocabulary)
        slope = float((odd * small).sum() / small.square().sum())
        if not float((odd - slope * small).norm()) < _CLOSE * abs(slope) * float(small.norm()):
            raise ModelError(f"what {self.name} does to its logits is no factor or soft cap: no logit lens")
        return slope


def _between(seen: Observation, start: int, stop: int) -> list[str]:
    """Modules, the outermost, called between the last layer and the head."""
    names = [call.module for call in seen.calls if call.begin > start and call.end < stop]
    return [name for name in names if not any(name.startswith(other + ".") for other in names)]


def _gives(made: Any) -> Any:
    return lambda *args, **kwargs: made


def _reach(*args: Any, **kwargs: Any) -> None:
    raise _Reached(next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)))


def _with_stream(made: Any, stream: Tensor) -> Any:
    """A layer's output, a tensor or several, with another stream."""
    return type(made)([stream, *made[1:]]) if isinstance(made, tuple | list) else stream


def _sizes_like(once: Tensor, twice: Tensor) -> list[Any] | None:
    """Norms that the tail may divide by, inferred from its output on streams and on their doubles."""

    def near(a: Tensor, b: Tensor) -> bool:
        return float((a - b).norm()) < _CLOSE * float(b.norm())

    if near(twice, 2 * once):
        return [lambda x: torch.ones(len(x), 1)]
    if near(twice, once):
        return [
            lambda x: x.square().mean(-1, keepdim=True).sqrt(),
            lambda x: x.var(-1, keepdim=True, unbiased=False).sqrt(),
        ]
    return None


def _product(weight: Tensor, tail: Tensor) -> Tensor:
    """weight (V, d') @ tail (d', d), without a product of matrices where the tail is a gain alone, centred or not."""
    if tail.shape[0] == tail.shape[1]:
        d = len(tail)
        gain = tail.diagonal()
        if torch.equal(tail, torch.diag(gain)):
            return weight * gain
        gain = gain * d / (d - 1)
        centred = torch.diag(gain) - gain[:, None] / d
        if float((tail - centred).norm()) < 1e-5 * float(gain.norm()):
            weight = weight * gain
            return weight - weight.mean(-1, keepdim=True)
    return weight @ tail
