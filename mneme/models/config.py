"""Settings of the models."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelsConfig:
    """How the two models are loaded."""

    trust_remote_code: bool = field(
        default=False,
        metadata={
            "doc": "run Python code that comes with a model; it can do anything you can, so read it first"
        },
    )
