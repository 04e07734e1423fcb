"""Find the layers of any decoder that transformers loads, and the residual stream in what a layer returns.

The layers are found by running the model on a few tokens and seeing which list of modules the text passes through
(observe.py). A model whose layers hand on anything but one residual stream, (batch, tokens, d) and each once, is
refused with the reason. Where a model's weights are elsewhere (the meta device), its config's count of layers has to
do.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme.models.observe import ROWS, TOKENS, Call, Observation, observe

_CAUSAL_TO = 0.02  # of a stream's size: what rounding may change, in bfloat16 through many layers

_SAME_TO = 0.01  # of a stream's size: what a factor may leave over, in bfloat16


class Anatomy(NamedTuple):
    """Where a decoder's residual stream is read."""

    path: str
    """Dotted path of the layer list: model.layers for Llama, transformer.h for GPT-2, ..."""
    n_layers: int
    width: int
    """d of the residual stream."""
    positions: int | None = None
    """How many tokens its tables of positions reach over, None where it has none."""


_KNOWN: WeakKeyDictionary[PreTrainedModel, Anatomy] = WeakKeyDictionary()


def anatomy(model: PreTrainedModel, seen: Observation | None = None) -> Anatomy:
    """Where the model's layers are; found once a model. `seen`: an observation of it that was made anyway.

    Raises ModelError for a model that has no such layers, or does not run on text alone.
    """
    if model not in _KNOWN:
        if _is_elsewhere(model):
            _KNOWN[model] = _announced(model)
        else:
            _KNOWN[model] = _observed(model, seen or observe(model))
    return _KNOWN[model]


def n_layers(model: PreTrainedModel) -> int:
    """How many layers the text passes through."""
    return anatomy(model).n_layers


def width(model: PreTrainedModel) -> int:
    """d: the residual stream's width."""
    return anatomy(model).width


def layers_path(model: PreTrainedModel) -> str:
    """The dotted path of the layer list. Raises ModelError when there is none."""
    return anatomy(model).path


def most_positions(model: PreTrainedModel) -> int | None:
    """The longest text the model's positions reach over, by its config and its tables; None where they have no end.

    Known of models without one residual stream too, which can still write. Raises ModelError for one that does not run
    on text alone.
    """
    config = model.config.get_text_config(decoder=True)
    found = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    if model in _KNOWN:
        found.append(_KNOWN[model].positions)
    elif not _is_elsewhere(model):
        found.append(_positions(model, observe(model)))
    return min((n for n in found if isinstance(n, int) and n > 0), default=None)


def layer_of_parameter(name: str, path: str) -> int | None:
    """The layer a parameter belongs to, None for one outside the layers (embeddings, final norm, head)."""
    if not name.startswith(path + "."):
        return None
    return int(name[len(path) + 1 :].split(".", 1)[0])


def residual(output: Any) -> torch.Tensor:
    """The residual stream (batch, tokens, d) in a layer's output: the output itself, or the first of several."""
    found: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return found


def layer_calls(seen: Observation, path: str) -> list[Call]:
    """The calls of the list's modules, in the order they ended."""
    return [call for call in seen.calls if call.module.rpartition(".")[0] == path]


def layers_before(clock: int, calls: list[Call]) -> int:
    """How many of the layers had ended at that time: the first layer whose output it can touch."""
    return sum(call.end <= clock for call in calls)


def _is_elsewhere(model: nn.Module) -> bool:
    """Whether the weights aren't here (the meta device)."""
    return any(parameter.is_meta for parameter in model.parameters())


def _observed(model: PreTrainedModel, seen: Observation) -> Anatomy:
    """The list whose modules the text passed through, checked."""
    name = type(model).__name__
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    called = {path for path in lists if layer_calls(seen, path)}
    # A mixture's experts, or a layer's own parts, lie inside a layer.
    outer = [p for p in lists if p in called and not any(p.startswith(o + ".") for o in called)]
    if not outer:
        raise ModelError(
            f"{name} has no list of layers that text passes through: mneme reads decoder-only language models of"
            " transformers"
        )
    # Beside the layers proper there may be lists of small helpers: the layers hold the weights.
    path = max(outer, key=lambda each: sum(p.numel() for p in model.get_submodule(each).parameters()))
    calls, count = layer_calls(seen, path), len(model.get_submodule(path))  # type: ignore[arg-type]  # a ModuleList
    if problem := _problem(path, calls, count):
        raise ModelError(f"{name} {problem}: mneme reads decoders with one residual stream")
    return Anatomy(path, count, residual(calls[-1].made).shape[-1], _positions(model, seen))


def _positions(model: nn.Module, seen: Observation) -> int | None:
    """The shortest reach of the tables that were asked for one row after the other, from any row on (RoBERTa's: the
    second after its padding)."""
    reach = []
    for call in seen.calls:
        table = model.get_submodule(call.module)
        if not isinstance(table, nn.Embedding) or not call.given:
            continue
        index = call.given[0]
        if index.is_floating_point() or index.shape[-1:] != (TOKENS,) or not bool((index.diff() == 1).all()):
            continue
        reach.append(table.num_embeddings - int(index[..., 0].max()))
    return min(reach, default=None)


def _problem(path: str, calls: list[Call], count: int) -> str | None:
    """Why the list's modules are no layers to read after, None where they are."""
    order = [int(call.module.rpartition(".")[2]) for call in calls]
    if len(set(order)) < len(order):
        return f"passes text through {path} more than once"
    if order != list(range(count)):
        return f"passes text through {len(order)} of the {count} layers of {path}, not all in turn"
    for index, call in enumerate(calls):
        stream = residual(call.made)
        if not isinstance(stream, Tensor) or not stream.is_floating_point():
            return f"gives no activations after layer {index}"
        if stream.ndim != 3 or stream.shape[:2] != (ROWS, TOKENS):
            return (
                f"carries something of shape {tuple(stream.shape)} from layer to layer, not"
                f" (batch, tokens, width) = ({ROWS}, {TOKENS}, d)"
            )
        if index and (problem := _handed_on(calls[index - 1], call)):
            return problem
    # Rows of the text differ in their last token only.
    stream = residual(calls[-1].made).float()
    change = (stream[0, :-1] - stream[1, :-1]).norm(dim=-1)
    if bool((change > _CAUSAL_TO * stream[0, :-1].norm(dim=-1)).any()):
        return "lets tokens see those after them (it is no causal decoder)"
    return None


def _handed_on(before: Call, after: Call) -> str | None:
    """What is wrong with the way from a layer to the next, None where the stream and no other is handed on."""
    stream = residual(before.made)
    made = [
        leaf for leaf in tree_leaves(before.made) if isinstance(leaf, Tensor) and leaf.shape == stream.shape
    ]
    given = [leaf for leaf in after.given if leaf.shape == stream.shape]
    handed = [any(_one_direction(leaf.float(), each.float()) for each in given) for leaf in made]
    if not handed[0]:
        return f"does not give a layer what the one before made ({after.module})"
    if sum(handed) > 1:
        return f"hands {sum(handed)} streams from layer to layer"
    return None


def _one_direction(made: Tensor, given: Tensor) -> bool:
    """Whether one is the other but for a factor: RWKV halves its stream between some layers."""
    factor = (made * given).sum() / made.square().sum().clamp(min=1e-30)
    return not bool((given - factor * made).norm() > _SAME_TO * given.norm())  # not numbers: told when read


def _announced(model: nn.Module) -> Anatomy:
    """By the config: the largest ModuleList as long as its count of layers."""
    config = model.config.get_text_config(decoder=True)  # type: ignore[union-attr, operator]  # nn.Module: any attribute
    count, d = int(config.num_hidden_layers), int(config.hidden_size)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    outer = [name for name, _ in found if not any(name.startswith(other + ".") for other, _ in found)]
    if not outer:
        raise ModelError(
            f"{type(model).__name__} has no list of {count} layers to read: mneme reads decoder-only models"
            " of transformers"
        )
    sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in outer}
    return Anatomy(max(outer, key=sizes.__getitem__), count, d)
