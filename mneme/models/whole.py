"""A model is whole where each of its weights came from its files."""

from __future__ import annotations

import re
from typing import Any

from mneme._util.errors import ModelError

_IN_A_LAYER = re.compile(r"(^|\.)(layers|h|blocks|block)\.\d+\.")
# Tables that older versions saved with the weights and every version computes anew.
_COMPUTED = re.compile(r"inv_freq$|masked_bias$|\.attn(ention)?\.bias$|position_ids$")


def check_whole(spec: str, info: dict[str, Any]) -> None:
    """Every weight of the model came from its files, and no weight of a layer was left over.

    info: what transformers' `output_loading_info` gives. It fills what is missing with random numbers, and drops what
    has no place; both are said only in its log. Raises ModelError.
    """
    if missing := sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])}):
        raise ModelError(f"{spec} lacks {len(missing)} of its weights (first {missing[0]}): fetch it again")
    # Other heads may go unread; a layer's weight may not.
    left = sorted(k for k in info["unexpected_keys"] if _IN_A_LAYER.search(k) and not _COMPUTED.search(k))
    if left:
        raise ModelError(
            f"{spec} holds {len(left)} weights of layers for which its config.json has no place (first {left[0]}):"
            " fetch both again"
        )
