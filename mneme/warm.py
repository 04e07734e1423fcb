"""Compile, once an installation, the loops that numba would compile in the middle of the first run: half a minute.

    python -m mneme.warm

`make setup` runs it. A small random problem goes through training, attribution, contexts and the map; what is compiled
is kept beside the sources, or in the user's cache where they can't be written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from mneme.attribution import attribute
from mneme.attribution.memory import MemoryCache
from mneme.crosscoder import CodeCache, CrosscoderConfig, train_crosscoder
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts
from mneme.interpret.projection import project_latents

_TOKENS, _WIDTH, _LATENTS = 512, 16, 64


class _Text(MemoryCache):
    """Documents of 32 tokens, all alike."""

    n_documents = _TOKENS // 32

    def document_tokens(self, document: int) -> np.ndarray:
        return np.zeros(32, dtype=np.int32)


def warm() -> None:
    """Run everything that is compiled once."""
    x = torch.randn(_TOKENS, 2, _WIDTH, generator=torch.Generator().manual_seed(0))
    cache = _Text(x.bfloat16(), np.arange(_TOKENS) // 32)
    config = CrosscoderConfig(latents=_LATENTS, k=4, batch_size=64, epochs=1)
    train_crosscoder(
        x, CrosscoderConfig(latents=_LATENTS, k=4, batch_size=64, epochs=1, encoder_dtype="float32")
    )
    crosscoder = train_crosscoder(x, config)
    with tempfile.TemporaryDirectory() as folder:
        attribute(crosscoder, cache, Path(folder))
        find_contexts(CodeCache(folder), cache, _LATENTS, InterpretConfig())
    project_latents(crosscoder.raw_decoder(), np.arange(_LATENTS))


if __name__ == "__main__":
    warm()
