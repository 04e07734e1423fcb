"""How many processes torchrun started, from its variables of the environment; torch is not needed to ask."""

from __future__ import annotations

import os

from mneme._util.errors import ConfigError


def started_ranks() -> int:
    """WORLD_SIZE, or 1. Raises ConfigError where it, or RANK, is no number."""
    world = whole_variable("WORLD_SIZE", 1)
    if world > 1 and not whole_variable("RANK", 0) < world:
        raise ConfigError(
            f"RANK={os.environ['RANK']} is not below WORLD_SIZE={world}: start with torchrun, or unset both"
        )
    return world


def whole_variable(name: str, default: int) -> int:
    """The whole number that a variable of the environment holds. Raises ConfigError where it holds something else."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(
            f"{name}={text[:40]!r} in the environment is no whole number: unset it, or start with torchrun"
        )
    return int(text)
