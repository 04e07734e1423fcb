"""Which layer is read: one whose residual stream holds the change.

Up to the first changed layer both streams are equal by construction, and nothing that is read there can show a change:
a run of such a layer would find no side effect in any pair. From there to the last changed layer more and more of the
change has come into the stream (layer_profile.py, layer_choice.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme._util.errors import ActivationError, ConfigError, PairError
from mneme.harvest.config import HarvestConfig
from mneme.harvest.layer_choice import ENOUGH, Choice, auto_layer, restored_at
from mneme.models import ModelPair

if TYPE_CHECKING:
    from mneme.harvest.cache import ActivationCache

_NAMED = 3  # changed parameters that a message names


def check_layer(config: HarvestConfig, pair: ModelPair) -> None:
    """Whether some layer can show what differs, and the one that is set.

    Raises ConfigError for a layer out of range or before the first change; PairError for identical models, and for two
    whose difference no layer reads: after the last one, or in a part that text doesn't reach.
    """
    layer, first = config.layer, pair.first_changed_layer
    if layer != "auto":
        _check_range(layer, pair)
    if first is None and not pair.changed_parameters:
        raise PairError(
            f"identical models: {pair.tuned_id} has the weights and settings of {pair.base_id}, so there is nothing to"
            " compare: check that the names are the ones you mean"
        )
    if first is None:
        raise PairError(
            f"what differs between {pair.base_id} and {pair.tuned_id} ({_named(pair.changed_parameters)}) reaches no"
            " layer's residual stream, as where only the final norm or the output head was tuned: no latent can"
            " show it; compare their predictions on a benchmark instead"
        )
    if layer != "auto" and layer < first:
        raise ConfigError(
            f"layer {layer} can't show the change: the layers before {first} are the same in both models, and so are"
            f" their residual streams there; give --layer {first} to {pair.n_layers - 1}, or leave it out to have one"
            " chosen"
        )


def choose_layer(config: HarvestConfig, pair: ModelPair, profile: pd.DataFrame | None) -> Choice:
    """The layer that is set, with a remark where the profile says it is poor; of `auto`, the profile's (`auto_layer`).

    profile: of `layer_profile`; None where it was not measured. Raises ConfigError when the models have no such layer.
    """
    if config.layer == "auto":
        return auto_layer(profile, pair.middle_layer, pair.first_changed_layer or 0)
    _check_range(config.layer, pair)
    return Choice(config.layer, f"set by harvest.layer{_remark(config.layer, profile)}")


def _remark(layer: int, profile: pd.DataFrame | None) -> str:
    """What the profile says against a layer; '' for nothing."""
    if profile is None:
        return ""
    share = restored_at(profile, layer)
    if not share < ENOUGH:  # NaN: not measured
        return ""
    better = profile[(profile["layer"] > layer) & (profile["restored"] >= ENOUGH)]["layer"]
    advice = f"; layer {int(better.min())} holds {ENOUGH:.0%}" if len(better) else ""
    return f": its stream holds only {share:.0%} of the difference of the predictions{advice}"


def check_streams(cache: ActivationCache) -> None:
    """Raises ActivationError where the two streams are equal on every token that was read.

    As where only the embedding of a token was trained that the text never uses, or models on a server are the same.
    """
    before_the_change = cache.n_shared_layers > cache.layer  # both had one stream
    if cache.n_differing == 0 or (cache.n_differing is None and before_the_change):
        raise ActivationError(
            f"the residual streams after layer {cache.layer} are equal in both models on all {cache.n:,} tokens, as"
            f" stored in {str(cache.dtype).removeprefix('torch.')}: no latent can show a change; give a later --layer,"
            " text that uses what was changed, or harvest.store_dtype = float32"
        )


def _check_range(layer: int, pair: ModelPair) -> None:
    if not 0 <= layer < pair.n_layers:
        raise ConfigError(
            f"layer {layer} is out of range: {pair.base_id} has {pair.n_layers} layers,"
            f" give 0 to {pair.n_layers - 1}"
        )


def _named(parameters: tuple[str, ...]) -> str:
    more = len(parameters) - _NAMED
    return ", ".join(parameters[:_NAMED]) + (f" and {more} more" if more > 0 else "")
