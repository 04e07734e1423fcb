"""Settings as frozen dataclasses that are at once documentation, command line and saved file.

A section is a frozen dataclass whose fields carry `metadata={"doc": "..."}`. `from_mapping` builds one from
a TOML table and refuses what can't be, naming the nearest known key; `section_table` writes one with every
default and every doc as a comment.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tomlkit

from mneme._util.errors import ConfigError

T = TypeVar("T")

_WIDEST = 48  # characters of a value in a table


class Difference(NamedTuple):
    """A setting that is not what it was."""

    setting: str
    """SECTION.KEY"""
    there: str
    now: str


def from_mapping(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """Build a section from a mapping of field names to plain values.

    Raises ConfigError for an unknown key (with the nearest known one) or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown setting {_dotted(section, key)}: {suggest(key, known)}")
    cleaned = {key: _coerce(value, hints[key], _dotted(section, key)) for key, value in values.items()}
    try:
        return cls(**cleaned)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[{section}] {error}") from error


def to_mapping(section: Any) -> dict[str, Any]:
    """Plain values of a section, None left out (TOML has no null: an absent key is the default)."""
    found = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
    return {key: _plain(value) for key, value in found.items() if value is not None}


def section_table(section: Any) -> tomlkit.items.Table:
    """A TOML table of a section: every field, its doc as a comment above it."""
    table = tomlkit.table()
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if doc := field.metadata.get("doc"):
            table.add(tomlkit.comment(" ".join(str(doc).split())))
        if value is None:
            table.add(tomlkit.comment(f"{field.name} = (chosen by mneme)"))
        else:
            table.add(field.name, _plain(value))
    return table


def parse_override(text: str) -> tuple[list[str], Any]:
    """`crosscoder.k=64` -> (['crosscoder', 'k'], 64); the value is read as TOML, else as a plain string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes SECTION.KEY=VALUE, for example crosscoder.k=64, not {text!r}")
    try:
        parsed: Any = tomlkit.parse(f"x = {value.strip()}").unwrap()["x"]
    except tomlkit.exceptions.ParseError:
        parsed = value.strip()
    return key.strip().split("."), parsed


def differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Settings whose values differ, in the order of `now`; SECTION.KEY -> value, missing ones shown as a dash."""
    missing = object()
    return [
        Difference(key, *(_shown(values[key]) if key in values else "–" for values in (there, now)))
        for key in {**now, **there}
        if there.get(key, missing) != now.get(key, missing)
    ]


def as_table(rows: Sequence[Difference]) -> str:
    """Lines of three columns under their heads: setting, there, now; nothing for no rows."""
    if not rows:
        return ""
    lines = [Difference._fields, *rows]
    widths = [max(len(line[c]) for line in lines) for c in range(len(Difference._fields))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _shown(value: Any) -> str:
    """One line, cut where it is long."""
    if value is None:
        return "–"
    text = " ".join(str(_plain(value)).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def suggest(word: str, known: typing.Iterable[str]) -> str:
    """`did you mean 'layer'?`, or the list of what is known."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _dotted(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value


def _coerce(value: Any, hint: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        errors = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return _coerce(value, option, name)
            except ConfigError as error:
                errors.append(error)
        raise errors[0]
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, arguments))}, not {value!r}")
    if origin in (tuple, list):
        if isinstance(value, (list, tuple)):
            inner = arguments[0] if arguments else str
            return origin(_coerce(v, inner, name) for v in value)
        raise ConfigError(f"{name} must be a list, not {value!r}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is Any or (isinstance(hint, type) and isinstance(value, hint)):
        if hint is int and isinstance(value, bool):
            raise ConfigError(f"{name} must be a whole number, not {value!r}")
        return value
    raise ConfigError(f"{name} must be {_WORDS.get(hint, str(hint))}, not {value!r}")


_WORDS = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", Path: "a path"}
