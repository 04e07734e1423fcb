"""The settings of a run: one section per room, TOML in and out.

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import tomlkit

from mneme._util.errors import ConfigError, first_line
from mneme._util.reading import read_toml
from mneme._util.setting_names import (
    as_written,
    current_name,
    given_twice,
    with_current_names,
    with_first_names,
)
from mneme._util.settings import (
    Text,
    Texts,
    from_mapping,
    one_line,
    parse_override,
    section,
    section_table,
    suggest,
    to_mapping,
)
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
_SOURCES = ("base", "tuned", "corpus", "text_field", "load_crosscoder")
_OF_CORPUS = {"source": "corpus", "field": "text_field"}
"""A table [corpus], or --set corpus.field=..., names these."""


@dataclass(frozen=True)
class RunConfig:
    """One analysis, whole."""

    base: str
    """The model before: hub id, folder, .gguf file, PEFT adapter, delta folder, bundled:base."""
    tuned: str
    """The model after, given in the same ways, or bundled:tuned."""
    corpus: str | tuple[str, ...] = "bundled"
    """Text to read: 'bundled', 'bundled:AREA,AREA', a file, a folder, 'hf:NAME[:SPLIT[:COLUMN]]', or the texts."""
    text_field: str | None = None
    """Field of a row that is its text, `a.b` inside of objects; None: `text`, `content`, or a conversation."""
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
        """A hash of the named sections or sources, by the first names of their settings: for a stage's fingerprint."""
        values = {}
        for name in names:
            value = getattr(self, name)
            values[name] = with_first_names(name, to_mapping(value)) if name in SECTIONS else value
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def make_config(
    values: Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    file: str | Path | None = None,
    origins: Mapping[str, str] | None = None,
) -> RunConfig:
    """A RunConfig from nested plain values, over which go the `SECTION.KEY=VALUE` texts of --set, in order.

    For messages: `file` is what the values were read from, `origins` (SECTION.KEY -> '--layer') tells of others.
    Raises ConfigError for unknown or impossible settings, and when base or tuned is missing.
    """
    found = _at_home(values)
    told = {**(origins or {}), **_override(found, overrides)}
    try:
        return _build(found)
    except ConfigError as error:
        section, _, key = error.setting.partition(".")
        origin = told.get(error.setting)
        if origin is None and file is not None and (section in _SOURCES or key):
            origin = f"in {file}"
        if origin is None:
            raise
        raise ConfigError(f"{error} ({origin})", error.setting) from error


def read_config(path: str | Path) -> dict[str, Any]:
    """Nested plain values of a TOML file, under the names that settings have now.

    Raises ConfigError when the file can't be read or is not TOML.
    """
    try:
        values = read_toml(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: name a TOML settings file") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not TOML: {first_line(error)}") from error
    corpus = values.get("corpus")
    if isinstance(corpus, str) and fnmatch(
        corpus, "text-*.jsonl.zst"
    ):  # the text that a run keeps (run/kept_text.py)
        beside = Path(path).absolute().parent / corpus
        values["corpus"] = str(beside) if beside.is_file() else corpus
    return _at_home(values)


def _build(values: Mapping[str, Any]) -> RunConfig:
    known = {*_SOURCES, *SECTIONS}
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown setting {one_line(key)}: {_full_name(key) or suggest(key, known)}", key
            )
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
        own = {f.name for f in dataclasses.fields(cls)}
        for key in given:
            if current_name(name, key) not in own and (full := _full_name(key)):
                raise ConfigError(f"unknown setting {name}.{one_line(key)}: {full}", f"{name}.{key}")
        sections[name] = from_mapping(cls, given, name)
    return _with_absolute_paths(RunConfig(**vars(sources), **sections))


def _full_name(key: str) -> str:
    """`did you mean crosscoder.k?` for a setting named without its section or under another; else empty."""
    found = [
        f"{section}.{current}"
        for section, cls in SECTIONS.items()
        if (current := current_name(section, key)) in {f.name for f in dataclasses.fields(cls)}
    ]
    return f"did you mean {' or '.join(found)}?" if found else ""


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """The settings with files and folders that exist named whole, so that they hold from any other folder too."""
    named = {name: getattr(config, name) for name in ("base", "tuned", "corpus", "load_crosscoder")}
    effects = {"taxonomy": config.effects.taxonomy, "outcomes": config.effects.outcomes}
    return dataclasses.replace(
        config,
        **{name: _absolute(value) for name, value in named.items()},
        effects=dataclasses.replace(config.effects, **{k: _absolute(v) for k, v in effects.items()}),
        labels=dataclasses.replace(config.labels, local=_absolute(config.labels.local)),
    )


def _absolute(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value
    try:
        path = Path(value).expanduser()
        return str(path.absolute()) if path.exists() else value
    except (OSError, RuntimeError, ValueError):  # too long for a name, an unknown ~user
        return value


def _at_home(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested values under the names of now, in the sections of now: see `_home`."""
    found: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    values = dict(values)
    if isinstance(values.get("corpus"), Mapping):
        values |= {_OF_CORPUS.get(key, f"corpus.{key}"): value for key, value in values.pop("corpus").items()}
    for name, table in values.items():
        if name not in SECTIONS or not isinstance(table, Mapping):
            found[name] = table
            continue
        table = as_written(name, with_current_names(name, table), _always_set(name))
        moved |= {key: value for key, value in table.items() if _home(name, key) != name}
        found[name] = {key: value for key, value in table.items() if _home(name, key) == name}
    if moved and isinstance(found.get("labels", {}), Mapping):
        found["labels"] = {**moved, **found.get("labels", {})}
    return found


def _always_set(section: str) -> set[str]:
    """A section's settings whose default is a value."""
    defaults = SECTIONS[section]()
    return {f.name for f in dataclasses.fields(defaults) if getattr(defaults, f.name) is not None}


def _home(section: str, key: str) -> str:
    """The section of a setting: runs of before the labels were a stage have theirs in [interpret]."""
    of_labels = section == "interpret" and key in {f.name for f in dataclasses.fields(LabelConfig)}
    return "labels" if of_labels else section


def _override(values: dict[str, Any], texts: Iterable[str]) -> dict[str, str]:
    """Set `SECTION.KEY=VALUE` texts in values of `_at_home`, in order; SECTION.KEY -> the --set that gave it.

    Raises ConfigError for a text that is none, and for two that give a setting under two names.
    """
    origins: dict[str, str] = {}
    names: dict[str, str] = {}
    for text in texts:
        keys, value = parse_override(text)
        if keys[0] == "corpus" and keys[-1] in _OF_CORPUS:
            keys = [_OF_CORPUS[keys[-1]]]
        if len(keys) == 2:
            section, given = keys
            name = current_name(section, given)
            keys = [_home(section, name), name]
            if names.setdefault(".".join(keys), given) != given:
                raise given_twice(section, names[".".join(keys)], given)
        table = values
        for key in keys[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {one_line(text)}: {one_line(key)} is not a section")
        table[keys[-1]] = value
        origins[".".join(keys)] = f"--set {one_line(text)}"
    return origins


@section()
class _Sources:
    base: Text
    tuned: Text
    corpus: Text | Texts = "bundled"
    text_field: Text | None = None
    load_crosscoder: Text | None = None
