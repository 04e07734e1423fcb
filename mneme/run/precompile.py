"""Compile, once an installation, what would be compiled in the middle of the first run: half a minute of numba's
loops, and ten seconds of every process where Python is told to keep no bytecode.

    python -m mneme.run.precompile

`make setup` runs it, bytecode kept. Every module is imported, with what it imports, and a small random problem goes
through training, attribution, contexts and the map; what is compiled is kept beside the sources, or in the user's
cache where they can't be written.
"""

from __future__ import annotations

import logging
import pkgutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

import mneme
from mneme._util.bundle import bundle_folder
from mneme.attribution import attribute
from mneme.attribution.held_activations import MemoryCache
from mneme.crosscoder import CodeCache, CrosscoderConfig, train_crosscoder
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts
from mneme.interpret.projection import project_latents

_BY_NAME = (  # what transformers and Streamlit import only when they need it
    "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert",
    "streamlit.web.bootstrap",
)
_TOKENS, _WIDTH, _LATENTS = 512, 16, 64


class _Text(MemoryCache):
    """Documents of 32 tokens, all alike."""

    n_documents = _TOKENS // 32

    def document_tokens(self, document: int) -> np.ndarray:
        return np.zeros(32, dtype=np.int32)


def import_all() -> list[str]:
    """Import every module of mneme and the dashboard but scripts; the names of those that can't be here."""
    if (home := str(bundle_folder())) not in sys.path:  # in a wheel the dashboard is no importable package
        sys.path.append(home)
    dashboard = import_module("dashboard")
    names = [
        module.name
        for package in (mneme, dashboard)
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        if not module.name.endswith(("__main__", "dashboard.app"))
    ]
    missing = []
    for name in (*names, *_BY_NAME):
        try:
            import_module(name)
        except ModuleNotFoundError as error:  # Triton's kernels, where there is no Triton
            missing.append(f"{name}: {error.name}")
    return missing


def warm() -> None:
    """Run everything that is compiled once."""
    import_all()
    x = torch.randn(_TOKENS, 2, _WIDTH, generator=torch.Generator().manual_seed(0))
    cache = _Text(x.bfloat16(), np.arange(_TOKENS) // 32)
    config = CrosscoderConfig(n_latents=_LATENTS, k=4, batch_size=64, epochs=1)
    train_crosscoder(
        x, CrosscoderConfig(n_latents=_LATENTS, k=4, batch_size=64, epochs=1, encoder_dtype="float32")
    )
    crosscoder = train_crosscoder(x, config)
    with tempfile.TemporaryDirectory() as folder:
        attribute(crosscoder, cache, Path(folder))
        find_contexts(CodeCache(folder), cache, _LATENTS, InterpretConfig())
    project_latents(crosscoder.raw_decoder(), np.arange(_LATENTS))


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # Streamlit's, that nobody is looking
    warm()
