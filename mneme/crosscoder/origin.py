"""What a crosscoder's own settings say of where it belongs: the layer and site it reads, and its models.

mneme reads the residual stream after a layer, counted from 0. TransformerLens' `blocks.L.hook_resid_post` is that of
layer L, `blocks.L.hook_resid_pre` that of layer L - 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from mneme._util.errors import CrosscoderError

_HOOK = re.compile(r"(?:blocks|layers|h)\.(\d+)(?:\.hook_(resid_pre|resid_post|resid_mid|\w+))?$")
_LAYER_KEYS = ("hook_layer", "layer", "layer_index")
_HOOK_KEYS = ("hook_point", "hook_name", "hook_point_in", "submodule_name", "submodule")
_SITE_KEYS = ("site", "io")
_MODEL_KEYS = ("model_name", "lm_name", "model_name_a", "model_name_b", "base_model", "tuned_model", "model")
_OUTPUTS = ("", "resid_post", "resid", "out", "output", "residual")


class Origin(NamedTuple):
    """What is known; None and () for what the files do not say."""

    hook: str | None = None
    """As the files put it: 'blocks.2.hook_resid_pre', 'layer 13'."""
    layer: int | None = None
    """The layer whose output it reads; -1: the embeddings."""
    site: str | None = None
    """Where in the layer, if that is no residual stream between layers: 'mlp_out'."""
    models: tuple[str, ...] = ()


def read_origin(settings: Mapping[str, Any], folder: str = "") -> Origin:
    """The origin that settings tell, or the name of the folder that the weights lie in."""
    flat = dict(_flat(settings))
    hook = next((flat[key] for key in _HOOK_KEYS if isinstance(flat.get(key), str)), None)
    if hook is None and _HOOK.search(folder):
        hook = folder
    models = tuple(dict.fromkeys(flat[key] for key in _MODEL_KEYS if isinstance(flat.get(key), str)))
    layer = next((flat[key] for key in _LAYER_KEYS if _is_layer(flat.get(key))), None)
    site = next((flat[key] for key in _SITE_KEYS if isinstance(flat.get(key), str)), "")
    found = _HOOK.search(hook) if hook is not None else None
    if found is not None:
        layer, site = int(found[1]), found[2] or site
        told = hook
    elif layer is not None:
        told = f"layer {layer}" + (f", {site}" if site else "")
    else:
        return Origin(hook, None, None, models)
    if site == "resid_pre":
        return Origin(told, layer - 1, None, models)
    return Origin(told, layer, None if site in _OUTPUTS else site, models)


def check_origin(source: str, origin: Origin, layer: int | Literal["auto"]) -> None:
    """Raises CrosscoderError where the crosscoder of `source` reads something else than the stream after `layer`.

    `auto`: a layer that is yet to be chosen, which may be another one.
    """
    if origin.site is not None:
        raise CrosscoderError(
            f"{source} was trained on {origin.hook} ({origin.site}), and mneme reads the residual stream between"
            " layers: give a crosscoder of that"
        )
    if origin.layer is None or origin.layer == layer:
        return
    if origin.layer < 0:
        raise CrosscoderError(
            f"{source} was trained on {origin.hook}, the embeddings, which come before any layer: give a crosscoder"
            " of a layer's output"
        )
    other = "and none is set" if layer == "auto" else f"not after layer {layer}"
    raise CrosscoderError(
        f"{source} was trained on {origin.hook}, which is the stream after layer {origin.layer}, {other}: give --layer"
        f" {origin.layer}"
    )


def foreign_models(origin: Origin, base: str, tuned: str) -> str | None:
    """A sentence where the files name other models than these; None where they don't, or name none."""
    given = {_plain(base), _plain(tuned)}
    if not origin.models or any(_plain(name) in given for name in origin.models):
        return None
    names = " and ".join(origin.models[:2])
    return (
        f"the crosscoder says that it was trained on {names}, not on {base} and {tuned}: nothing here tells whether"
        " these are the same"
    )


def _flat(settings: Mapping[str, Any], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """Every setting by its last name; the outermost wins, as it comes last."""
    for value in settings.values():
        if isinstance(value, Mapping) and depth:
            yield from _flat(value, depth - 1)
    yield from settings.items()


def _is_layer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10_000


def _plain(name: str) -> str:
    """'org/Model-2b' and a folder '.../model-2b' -> 'model-2b'."""
    return name.rstrip("/").rsplit("/", 1)[-1].partition("@")[0].lower()
