"""What of the first changed layer is the same in both models: the parts that are over before a changed one begins.

Many edits touch a layer's last product only (RMU, ROME and MEMIT write into mlp.down_proj): its attention, and what the
product reads, are then as much shared as the layers before.
"""

from __future__ import annotations

from collections import Counter

from torch import nn

from mneme.models import ModelPair
from mneme.models.observe import Observation, observe


def unchanged_parts(pair: ModelPair, layer: int) -> tuple[str, ...]:
    """Names within the layer of the largest modules that end before anything changed is read, in the order they end.

    Only those with a weight matrix: others cost less than handing them over. The order is the base's, before whose
    layer nothing may differ.
    """
    prefix = f"{pair.layers_path}.{layer}."
    root: nn.Module = pair.base._module.get_submodule(prefix[:-1])
    names = {prefix + name if name else prefix[:-1] for name, _ in root.named_modules()}
    seen = observe(pair.base._module, names)
    first = min((_read(name, seen, prefix) for name in pair.changed_parameters), default=0)
    times = Counter(call.module for call in seen.calls)
    whole = [
        call.module.removeprefix(prefix)
        for call in seen.calls
        if call.module.startswith(prefix) and call.end <= first and times[call.module] == 1
    ]
    whole = [name for name in whole if any(p.ndim > 1 for p in root.get_submodule(name).parameters())]
    return tuple(name for name in whole if not any(name.startswith(other + ".") for other in whole))


def _read(name: str, seen: Observation, prefix: str) -> float:
    """When a tensor is read; one that the few tokens left out could be read as soon as what holds it begins."""
    if name in seen.first_read:
        return seen.first_read[name]
    if not name.startswith(prefix):
        return float("inf")
    began = {call.module: call.begin for call in reversed(seen.calls)}
    while name not in began:
        name = name.rpartition(".")[0]
    found: float = began[name]
    return found
