"""nnsight's handle of a module, by the module's dotted path.

A module may be called as one of nnsight's own words (`output` in GIT and BERT's kind): it is kept under another name.
"""

from __future__ import annotations

import warnings
from typing import Any

from nnsight import TransformersModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_RENAMED = "E_"  # what nnsight puts before such a name


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> TransformersModel:
    """The model, ready for tracing, where it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Module '.*' has a submodule named", category=UserWarning)
        # Without `device` the pipeline nnsight builds would move the model to an accelerator of its choice.
        return TransformersModel(model, tokenizer=tokenizer, task="text-generation", device=model.device)


def handle(root: Any, path: str) -> Any:
    """The handle of the module at `path` within `root`, a traced model or another handle."""
    for name in path.split("."):
        root = getattr(root, _RENAMED + name) if hasattr(root, _RENAMED + name) else getattr(root, name)
    return root
