"""Which layer is read: one whose residual stream can differ between the two models.

Up to the first changed layer both streams are equal by construction, and nothing that is read there can show a change:
a run of such a layer would find no side effect in any pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.errors import ActivationError, ConfigError, PairError
from mneme.harvest.config import HarvestConfig
from mneme.models import ModelPair

if TYPE_CHECKING:
    from mneme.harvest.cache import ActivationCache

_NAMED = 3  # changed parameters that a message names


def resolve_layer(config: HarvestConfig, pair: ModelPair) -> int:
    """The layer to read: the one set, else the middle, or the first changed one where that comes later.

    Raises ConfigError when the models have no such layer.
    """
    layer = config.layer
    if layer is None:
        layer = max(pair.middle_layer, pair.first_changed_layer or 0)
    if not 0 <= layer < pair.n_layers:
        raise ConfigError(
            f"layer {layer} is out of range: {pair.base_id} has {pair.n_layers} layers,"
            f" give 0 to {pair.n_layers - 1}"
        )
    return layer


def check_layer(config: HarvestConfig, pair: ModelPair) -> int:
    """The layer to read, whose streams can differ.

    Raises ConfigError for a layer out of range or before the first change; PairError for identical models, and for two
    whose difference no layer reads: after the last one, or in a part that text doesn't reach.
    """
    layer, first = resolve_layer(config, pair), pair.first_changed_layer
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
    if layer < first:
        raise ConfigError(
            f"layer {layer} can't show the change: the layers before {first} are the same in both models, and so are"
            f" their residual streams there; give --layer {first} to {pair.n_layers - 1}, or leave it out to read"
            f" {max(pair.middle_layer, first)}"
        )
    return layer


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


def _named(parameters: tuple[str, ...]) -> str:
    more = len(parameters) - _NAMED
    return ", ".join(parameters[:_NAMED]) + (f" and {more} more" if more > 0 else "")
