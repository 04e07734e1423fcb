"""The settings of a run: one section a room, TOML in and out.

    base = "bundled:base"
    tuned = "bundled:tuned"
    corpus = "bundled"

    [harvest]
    layer = 14
    [crosscoder]
    k = 32

What is not given has the default documented in the section's dataclass; the resolved whole is saved as
`run.toml`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from mneme._util.errors import ConfigError
from mneme._util.settings import from_mapping, parse_override, section_table, suggest, to_mapping
from mneme.attribution.config import AttributionConfig
from mneme.crosscoder.config import CrosscoderConfig
from mneme.effects.config import EffectsConfig
from mneme.harvest.config import HarvestConfig
from mneme.interpret.config import InterpretConfig
from mneme.interpret.label_config import LabelConfig
from mneme.models.config import ModelsConfig

SECTIONS: dict[str, type] = {
    "models": ModelsConfig,
    "harvest": HarvestConfig,
    "crosscoder": CrosscoderConfig,
    "attribution": AttributionConfig,
    "interpret": InterpretConfig,
    "labels": LabelConfig,
    "effects": EffectsConfig,
}
_SOURCES = ("base", "tuned", "corpus", "load_crosscoder")


@dataclass(frozen=True)
class RunConfig:
    """One analysis, whole."""

    base: str
    """The model before: hub id, folder, .gguf file, PEFT adapter, delta folder, bundled:base."""
    tuned: str
    """The model after, given in the same ways, or bundled:tuned."""
    corpus: str | tuple[str, ...] = "bundled"
    """Text to read: 'bundled', 'bundled:AREA,AREA', a file, a folder, 'hf:NAME[:SPLIT[:COLUMN]]', or the texts."""
    load_crosscoder: str | None = None
    """A trained crosscoder (folder or hub id) to use instead of training one."""
    models: ModelsConfig = field(default_factory=ModelsConfig)
    harvest: HarvestConfig = field(default_factory=HarvestConfig)
    crosscoder: CrosscoderConfig = field(default_factory=CrosscoderConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    interpret: InterpretConfig = field(default_factory=InterpretConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    effects: EffectsConfig = field(default_factory=EffectsConfig)

    def to_toml(self) -> str:
        """The resolved settings, every default written out, every field explained."""
        document = tomlkit.document()
        document.add(
            tomlkit.comment("What this run was made with: `mneme run` with this file makes it again.")
        )
        for name in _SOURCES:
            value = getattr(self, name)
            if value is not None:
                document.add(name, list(value) if isinstance(value, tuple) else value)
        for name in SECTIONS:
            document.add(tomlkit.nl())
            document.add(name, section_table(getattr(self, name)))
        return tomlkit.dumps(document)

    def flat(self) -> dict[str, Any]:
        """SECTION.KEY -> value, every default too; None where mneme chooses."""
        found = {name: getattr(self, name) for name in _SOURCES}
        for name in SECTIONS:
            section = getattr(self, name)
            found |= {f"{name}.{f.name}": getattr(section, f.name) for f in dataclasses.fields(section)}
        return found

    def section_hash(self, *names: str) -> str:
        """A hash of the named sections or sources: what a stage's fingerprint is made of."""
        values = {}
        for name in names:
            value = getattr(self, name)
            values[name] = to_mapping(value) if dataclasses.is_dataclass(value) else value
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from nested plain values.

    Raises ConfigError for unknown or impossible settings, and when base or tuned is missing.
    """
    known = {*_SOURCES, *SECTIONS}
    values = _at_home(values)
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown setting {key}: {suggest(key, known)}")
    for key in ("base", "tuned"):
        if not values.get(key):
            raise ConfigError(
                f"no {key} model given: name one with --{key} or `{key} = ...` in the settings file"
            )
    sources = from_mapping(_Sources, {k: v for k, v in values.items() if k in _SOURCES}, "")
    sections: dict[str, Any] = {}
    for name, cls in SECTIONS.items():
        given = values.get(name, {})
        if not isinstance(given, Mapping):
            raise ConfigError(f"{name} must be a table: write [{name}] above its settings")
        sections[name] = from_mapping(cls, given, name)
    return RunConfig(**vars(sources), **sections)


def _at_home(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of labels that stand in [interpret], where earlier runs kept them, moved to [labels]."""
    given, labels = values.get("interpret"), values.get("labels", {})
    if not isinstance(given, Mapping) or not isinstance(labels, Mapping):
        return values
    of_labels = {f.name for f in dataclasses.fields(LabelConfig)}
    moved = {key: value for key, value in given.items() if key in of_labels}
    kept = {key: value for key, value in given.items() if key not in of_labels}
    return {**values, "interpret": kept, "labels": {**moved, **labels}}


def read_config(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Nested plain values of a TOML file, with `SECTION.KEY=VALUE` overrides applied.

    Raises ConfigError when the file can't be read or is not TOML.
    """
    try:
        values: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read: name a TOML settings file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    return apply_overrides(values, overrides)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set `SECTION.KEY=VALUE` texts in nested plain values, in order."""
    for text in overrides:
        keys, value = parse_override(text)
        table = values
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {text}: {key} is not a section")
        table[keys[-1]] = value
    return values


@dataclass(frozen=True)
class _Sources:
    base: str
    tuned: str
    corpus: str | tuple[str, ...] = "bundled"
    load_crosscoder: str | None = None
