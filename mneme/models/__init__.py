"""Find and load a model, check a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.models.bundled import bundled_base_folder, data_folder
    from mneme.models.load import load_model, load_tokenizer
    from mneme.models.pair import ModelPair, load_pair, pair_models

__all__ = [
    "ModelPair",
    "bundled_base_folder",
    "data_folder",
    "load_model",
    "load_pair",
    "load_tokenizer",
    "pair_models",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ModelPair": "pair",
        "bundled_base_folder": "bundled",
        "data_folder": "bundled",
        "load_model": "load",
        "load_pair": "pair",
        "load_tokenizer": "load",
        "pair_models": "pair",
    },
)
