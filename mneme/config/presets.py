"""Sets of settings for one purpose, `--preset NAME`: a settings file, flags and --set go over them."""

from __future__ import annotations

from typing import Any

from mneme._util.errors import ConfigError
from mneme._util.settings import suggest

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # a first look: a quarter of the demo's tokens and latents, labels that aren't scored
    "quick": {
        "harvest": {"max_tokens": 25_000},
        "crosscoder": {"n_latents": 1024, "k": 16, "batch_size": 1024},
        "labels": {"score_labels": False},
    },
    "default": {},
    # twice the dictionary, trained twice as long; predictions measured on all documents
    "thorough": {
        "harvest": {"behaviour_share": 1.0},
        "crosscoder": {"expansion_factor": 16, "epochs": 14.0},
    },
}


def preset(name: str) -> dict[str, dict[str, Any]]:
    """The nested settings of a preset. Raises ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: {suggest(name, PRESETS)}")
    return {section: dict(values) for section, values in PRESETS[name].items()}


def over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested settings, `above` over `below`."""
    found = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            found[name] = {**below[name], **above[name]}
    return found
