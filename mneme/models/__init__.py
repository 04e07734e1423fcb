"""Find and load a model, check a pair."""

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
