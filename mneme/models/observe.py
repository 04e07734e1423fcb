"""What one pass over a few tokens shows of a model: which modules a text passes through in turn, which tensors are
read when, and which are changed in place.

Names of modules and fields of configs differ from one architecture to the next; what happens in a forward pass does
not lie. Operators are seen by torch's dispatch: every product, sum and copy, whoever calls it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from mneme._util.errors import ModelError, first_line
from mneme._util.memory import is_out_of_memory
from mneme.models.text import some_ids

ROWS, TOKENS = 2, 7
"""Shape of the text that is read: neither is a width of a model, so that the axes can be told."""


class Call(NamedTuple):
    """One call of a module."""

    module: str
    """Dotted name."""
    begin: int
    end: int
    """Ticks of the pass's clock, which counts begins and ends of modules."""
    given: tuple[Tensor, ...]
    """Tensors among its arguments."""
    made: Any
    """What it gave."""


class Observation(NamedTuple):
    """What a pass over ids (ROWS, TOKENS) showed."""

    calls: list[Call]
    """In the order they ended."""
    first_read: dict[str, int]
    """Parameter or buffer -> the clock when an operator first read it; those not read are missing."""
    written: dict[str, Tensor]
    """Parameter or buffer that was changed in place -> its values before."""
    output: Any
    """What the model gave."""


def probe_ids(model: PreTrainedModel) -> Tensor:
    """(ROWS, TOKENS) int64, on the model's device: the rows differ in their last token only."""
    ids = some_ids(model, TOKENS + 1)[0]
    return torch.stack([ids[:TOKENS], torch.cat([ids[: TOKENS - 1], ids[TOKENS:]])])


def observe(model: PreTrainedModel, modules: set[str] | None = None) -> Observation:
    """Run the model once over `probe_ids` and watch; `modules`: those whose calls are kept, default all.

    Raises ModelError when the model can't be run on text alone.
    """
    tensors = named_tensors(model)
    before = {name: tensor.detach() for name, tensor in tensors.items()}
    watch = _Watch(before)
    calls: list[Call] = []
    begun: dict[str, list[tuple[int, tuple[Tensor, ...]]]] = {}

    def begins(name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        watch.clock += 1
        given = tuple(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        begun.setdefault(name, []).append((watch.clock, given))

    def ends(name: str, _module: nn.Module, _args: Any, made: Any) -> None:
        watch.clock += 1
        begin, given = begun[name].pop()
        calls.append(Call(name, begin, watch.clock, given, made))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if modules is None or name in modules:
                stack.callback(
                    module.register_forward_pre_hook(partial(begins, name), with_kwargs=True).remove
                )
                stack.callback(module.register_forward_hook(partial(ends, name)).remove)
        stack.enter_context(evaluating(model))
        stack.enter_context(watch)
        output = run_on(model, probe_ids(model))
    for name, tensor in tensors.items():  # put in another's place by `.data = ...`
        if tensor.data_ptr() != before[name].data_ptr():
            watch.written[name] = before[name]
    return Observation(calls, watch.first_read, watch.written, output)


@torch.no_grad()
def run_on(model: PreTrainedModel, ids: Tensor) -> Any:
    """What the model makes of ids (rows, tokens) alone. Raises ModelError when it can't be run so."""
    try:
        return model(input_ids=ids, use_cache=False)
    except Exception as error:
        if isinstance(error, ModelError) or is_out_of_memory(error):
            raise
        raise ModelError(
            f"{type(model).__name__} can't be run on text alone ({type(error).__name__}: {first_line(error)}): mneme"
            " reads decoder-only language models of transformers"
        ) from error


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """After the block the model is as before it: what was changed in place gets its values back, and flags theirs.

    A weight that a model divides when it first runs must still be as it was stored when a difference is merged into it.
    """
    plain = (bool, int, float, str, type(None))
    flags = {
        module: {name: value for name, value in vars(module).items() if isinstance(value, plain)}
        for module in model.modules()
    }
    tensors = named_tensors(model)
    watch = _Watch({name: tensor.detach() for name, tensor in tensors.items()})
    with watch:
        yield
    with torch.no_grad():
        for name, values in watch.written.items():
            tensors[name].copy_(values)
    for module, before in flags.items():
        vars(module).update(before)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block no module is in training mode: no dropout."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers, by every name they go by: what a state dict holds."""
    names = set(model.state_dict(keep_vars=True))
    found: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    buffers = model.named_buffers(remove_duplicate=False)
    return found | {name: buffer for name, buffer in buffers if name in names}


@contextmanager
def standing_in(modules: dict[nn.Module, Any]) -> Iterator[None]:
    """Inside the block, each module's forward is the function given for it."""
    with ExitStack() as stack:
        for module, function in modules.items():
            had = module.__dict__.get("forward")
            if had is None:
                stack.callback(module.__dict__.pop, "forward", None)
            else:
                stack.callback(module.__dict__.__setitem__, "forward", had)
            module.__dict__["forward"] = function
        yield


class _Watch(TorchDispatchMode):
    """Sees each operator's tensors, and knows a model's by where they lie in memory."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.clock = 0
        self.first_read: dict[str, int] = {}
        self.written: dict[str, Tensor] = {}
        self._tensors = tensors
        places: dict[int, list[str]] = {}
        for name, tensor in tensors.items():
            if tensor.numel():
                places.setdefault(tensor.data_ptr(), []).append(name)
        self._starts = sorted(places)
        self._names = [places[start] for start in self._starts]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for index, argument in enumerate(func._schema.arguments):
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            for leaf in tree_leaves(value):
                if isinstance(leaf, Tensor):
                    changes = argument.alias_info is not None and argument.alias_info.is_write
                    self._saw(leaf, changes)
        return func(*args, **kwargs)

    def _saw(self, tensor: Tensor, changes: bool) -> None:
        place = tensor.data_ptr() if tensor.layout is torch.strided else 0
        at = bisect_right(self._starts, place) - 1
        if at < 0:
            return
        for name in self._names[at]:
            mine = self._tensors[name]
            if mine.device != tensor.device or place >= mine.data_ptr() + mine.numel() * mine.element_size():
                continue
            if changes and name not in self.written:
                self.written[name] = mine.clone()
            elif not changes:
                self.first_read.setdefault(name, self.clock)
