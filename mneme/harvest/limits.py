"""How much a harvest may read and write: the models' context, the cache's cap, the disk."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from mneme._util.errors import ConfigError, DiskFullError
from mneme.harvest import shards
from mneme.harvest.batch_memory import LOGITS
from mneme.harvest.config import HarvestConfig
from mneme.models import ModelPair
from mneme.models.layers import most_positions


def estimated_bytes(n_tokens: int, width: int, config: HarvestConfig) -> int:
    """Disk space that the activations of so many tokens take."""
    item = getattr(torch, config.store_dtype).itemsize
    found: int = n_tokens * (2 * width * item + shards.ROW_BYTES + 4)
    return found


def within_limits(config: HarvestConfig, pair: ModelPair) -> HarvestConfig:
    """The settings with windows that both models can read, and no more tokens than `cache_gb` holds.

    Raises ConfigError when `cache_gb` holds too few to learn from.
    """
    most = [most_positions(model._module) for model in (pair.base, pair.tuned)]
    config = replace(config, context_length=min([config.context_length, *(n for n in most if n)]))
    if config.cache_gb is None:
        return config
    fitting = int(config.cache_gb * 1e9) // estimated_bytes(1, pair.width, config)
    if fitting < config.min_tokens:
        raise ConfigError(
            f"harvest.cache_gb = {config.cache_gb:g} holds {fitting:,} tokens, fewer than harvest.min_tokens"
            f" ({config.min_tokens:,}): raise it"
        )
    return replace(config, max_tokens=min(fitting, config.max_tokens or fitting))


def logits_batch_tokens(pair: ModelPair, config: HarvestConfig) -> int:
    """Tokens of a forward pass that makes logits: as many as others, and no more logits at once than `LOGITS`."""
    return min(config.batch_tokens, LOGITS // pair.vocab_size)


def check_room(folder: Path, needed: int) -> None:
    """Refuse to start what the disk can't hold. Raises DiskFullError."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"the activations need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free:"
            " free some, name another folder, or lower harvest.max_tokens or harvest.cache_gb"
        )
