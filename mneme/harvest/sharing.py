"""What of the first changed layer is the same in both models: the parts that are over before a changed one begins.

Many edits touch a layer's last product only (RMU, ROME and MEMIT write into mlp.down_proj): its attention, and what the
product reads, are then as much shared as the layers before.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial

import torch
from torch import nn

from mneme.models import ModelPair


def unchanged_parts(pair: ModelPair, layer: int, ids: torch.Tensor) -> tuple[str, ...]:
    """Names within the layer of the largest modules that end before the first with a changed parameter begins,
    in the order they end. Only those with a weight matrix: others cost less than handing them over.

    ids: (rows, tokens) int64, a text to see the order by; in the base, before which nothing may differ.
    """
    prefix = f"{pair.layers_path}.{layer}."
    owners = {
        name[len(prefix) :].rpartition(".")[0] for name in pair.changed_parameters if name.startswith(prefix)
    }
    root: nn.Module = pair.base._module.get_submodule(prefix[:-1])
    events: list[tuple[str, str]] = []

    def saw(what: str, name: str, *_: object) -> None:
        events.append((what, name))

    with ExitStack() as hooks, torch.no_grad():
        for name, module in root.named_modules():
            hooks.callback(module.register_forward_pre_hook(partial(saw, "begins", name)).remove)
            hooks.callback(module.register_forward_hook(partial(saw, "ends", name)).remove)
        with pair.base.trace(input_ids=ids, use_cache=False):
            pass
    first = next((i for i, (what, name) in enumerate(events) if what == "begins" and name in owners), 0)
    times = Counter(name for what, name in events if what == "ends")
    whole = [
        name
        for what, name in events[:first]
        if what == "ends"
        and times[name] == 1
        and any(p.ndim > 1 for p in root.get_submodule(name).parameters())
    ]
    return tuple(name for name in whole if not any(name.startswith(other + ".") for other in whole))
