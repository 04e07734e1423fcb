"""A model is whole where each of its weights came from its files."""

from __future__ import annotations

import re
from typing import Any

from mneme._util.errors import ModelError
from mneme.models.hints import ZERO_3, empty_weights

_IN_A_LAYER = re.compile(r"(^|\.)(layers|h|blocks|block)\.\d+\.")
# Tables that older versions saved with the weights and every version computes anew.
_WRAPPER = re.compile(
    r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^(_forward_module|module|base_model\.model)\."
)
UNWRAPPED = {
    r"^((_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|module|base_model\.model)\.)+": "",
    r"(\.(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module))+\.": ".",
}
"""Names without what wrappers add, as `key_mapping` of transformers."""
_COMPUTED = re.compile(r"inv_freq$|masked_bias$|\.attn(ention)?\.bias$|position_ids$")


def check_whole(spec: str, info: dict[str, Any]) -> None:
    """Every weight of the model came from its files, and no weight of a layer was left over.

    info: what transformers' `output_loading_info` gives. It fills what is missing with random numbers, and drops what
    has no place; both are said only in its log. Raises ModelError.
    """
    if mismatched := sorted(info["mismatched_keys"], key=lambda key: str(key[0])):
        if empty_weights(mismatched):
            raise ModelError(f"{spec} {ZERO_3}")
        name, found, expected = (*mismatched[0], None, None)[:3]
        raise ModelError(
            f"{spec} has {len(mismatched)} weights of other shapes than its config.json says (first {name}:"
            f" {_shape(found)} where {_shape(expected)} is expected): fetch both again"
        )
    if missing := sorted(info["missing_keys"]):
        if any(".base_layer." in key or ".lora_" in key for key in info["unexpected_keys"]):
            raise ModelError(
                f"{spec} holds a PEFT model whose adapter is not merged: save the adapter with save_pretrained and give"
                " that folder, or save merge_and_unload()"
            )
        raise ModelError(f"{spec} lacks {len(missing)} of its weights (first {missing[0]}): fetch it again")
    # Other heads may go unread; a layer's weight may not.
    left = sorted(k for k in info["unexpected_keys"] if _IN_A_LAYER.search(k) and not _COMPUTED.search(k))
    if left:
        raise ModelError(
            f"{spec} holds {len(left)} weights of layers for which its config.json has no place (first {left[0]}):"
            " fetch both again"
        )


def wrapped(info: dict[str, Any]) -> bool:
    """Whether weights have no place for the names that a wrapper gave them (torch.compile, DDP, FSDP, PEFT)."""
    return bool(info["missing_keys"]) and any(_WRAPPER.search(key) for key in info["unexpected_keys"])


def _shape(size: Any) -> str:
    return str(tuple(size)) if size is not None else "another"
