"""Settings whose names changed: the old ones still work wherever settings are given, and old runs still resume.

A setting may be given under any of its names, once. `run.toml` has the new ones. What a run is known by (the
fingerprints of its stages and of a training's checkpoint) is made from the first name that a setting ever had, and
without a setting that was added since, where it has the value that it had before there was a choice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mneme._util.errors import ConfigError

RENAMED: dict[str, dict[str, str]] = {
    "crosscoder": {
        "latents": "n_latents",
        "expansion": "expansion_factor",
        "aux_alpha": "auxk_alpha",
        "dead_after": "dead_feature_threshold",
    },
    "effects": {
        "forget": "intended",
        "min_effect": "affected_share_scale",
        "min_reach": "min_affected_share",
    },
}
"""Section -> old name -> name."""

BEFORE: dict[str, dict[str, Any]] = {
    "crosscoder": {"init": "random", "imported_scale": "auto", "held_out_share": 0.0},
    "harvest": {"layer": "auto"},
    "labels": {"max_tokens": 300},
}
"""Settings added later -> the value that all runs before had: fingerprints leave them out there.

Runs that left the layer to mneme had none in their settings: they keep the layer that was chosen for them then.
"""


def current_name(section: str, key: str) -> str:
    """The name that a setting has now."""
    return RENAMED.get(section, {}).get(key, key)


def first_name(section: str, key: str) -> str:
    """The name that a setting had first: fingerprints are made from it."""
    return next((old for old, new in RENAMED.get(section, {}).items() if new == key), key)


def all_names(section: str, key: str) -> list[str]:
    """The name of a setting, and its old ones."""
    return [key, *(old for old, new in RENAMED.get(section, {}).items() if new == key)]


def with_current_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section's values under the names of now. Raises ConfigError where one is given under two names."""
    found: dict[str, Any] = {}
    given: dict[str, str] = {}
    for key, value in values.items():
        name = current_name(section, key)
        if name in found:
            raise given_twice(section, given[name], key)
        found[name], given[name] = value, key
    return found


def with_first_names(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A section's values under the names that fingerprints are made from; what `BEFORE` says is left out."""
    before = BEFORE.get(section, {})
    return {
        first_name(section, key): value
        for key, value in values.items()
        if key not in before or value != before[key]
    }


def as_written(section: str, values: Mapping[str, Any], every: Collection[str]) -> dict[str, Any]:
    """A section's values, what a file that mneme wrote lacks as it was when the file was written.

    Such a file has every setting of then that has a value: a run of before goes on as it was made. every: the settings
    of now that always have one.
    """
    before = BEFORE.get(section, {})
    if not before or not (set(every) - set(before)) <= set(values):
        return dict(values)
    return {**before, **values}


def given_twice(section: str, one: str, other: str) -> ConfigError:
    """For a setting under two of its names."""
    name = current_name(section, one)
    return ConfigError(
        f"{section}.{one} and {section}.{other} are one setting: give {section}.{name} only",
        f"{section}.{name}",
    )
