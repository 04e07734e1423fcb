"""Settings as frozen dataclasses that are at once documentation, command line and saved file.

A section is a frozen pydantic dataclass (`@section("name")`) whose fields carry their doc and their bounds:
`k: Count = Field(default=32, description="...")`. `from_mapping` builds one from a TOML table and refuses what can't
be, naming the nearest known key; `section_table` writes one with every default and every doc as a comment.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar, dataclass_transform

import pydantic.dataclasses
import tomlkit
from pydantic import AliasChoices, AliasGenerator, ConfigDict, Field, ValidationError

from mneme._util.errors import ConfigError
from mneme._util.setting_names import all_names, with_current_names, with_first_names

T = TypeVar("T")

_WIDEST = 48  # characters of a value in a table
_LONGEST = 60  # characters of a value in a message

# What fields are made of. All bounds lie within 64 bits, which is what TOML has for whole numbers.
_MOST = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=_MOST)]
Amount = Annotated[int, Field(ge=0, le=_MOST)]
Tokens = Annotated[int, Field(ge=1, le=10**15)]
Seed = Annotated[int, Field(ge=0, le=_MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
ShareInside = Annotated[float, Field(gt=0, lt=1)]
Cosine = Annotated[float, Field(ge=-1, le=1)]
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]
"""A number that others may be divided by."""
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""No path, name or device holds a NUL."""
Texts = Annotated[tuple[Text, ...], Field(strict=False)]
"""TOML gives a list."""


class Difference(NamedTuple):
    """A setting that is not what it was."""

    setting: str
    """SECTION.KEY"""
    there: str
    now: str


@dataclass_transform(frozen_default=True, field_specifiers=(Field, dataclasses.field))
def section(name: str = "") -> Callable[[type[T]], type[T]]:
    """Make a class a section: frozen, its values checked, its settings' old names taken too.

    Building one raises ValueError (pydantic's ValidationError) for values that can't be.
    """

    def names(key: str) -> AliasChoices:
        return AliasChoices(*all_names(name, key))

    made: Any = pydantic.dataclasses.dataclass(
        frozen=True,
        config=ConfigDict(
            strict=True,  # no true for 1, no '3' for 3
            extra="forbid",
            allow_inf_nan=False,
            loc_by_alias=False,
            alias_generator=AliasGenerator(validation_alias=names),
        ),
    )
    return made  # type: ignore[no-any-return]  # pydantic types its dataclasses as Any


def from_mapping(cls: type[T], values: Mapping[str, Any], section: str) -> T:
    """Build a section from a mapping of field names, old or new, to plain values.

    Raises ConfigError for an unknown key (with the nearest known one), one setting under two names, or a value of the
    wrong type or out of bounds.
    """
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # a section is a dataclass
    values = with_current_names(section, values)
    for key in values:
        if key not in known:
            name = _dotted(section, key)
            raise ConfigError(f"unknown setting {one_line(name)}: {suggest(key, known)}", name)
    values = dict(values)
    while True:
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
        whole = first["input"]
        if first["type"] != "int_type" or not isinstance(whole, float) or not whole.is_integer():
            break
        values[str(first["loc"][0])] = int(whole)  # 1e4, as people write ten thousand
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] in ("value_error", "assertion_error"):  # the section's own checks
        raise ConfigError(f"[{section}] {first['ctx']['error']}", section)
    name = _dotted(section, key)
    raise ConfigError(f"{name} must be {_demand(first)}, not {_told(first['input'])}", name)


def _demand(error: Any) -> str:
    """What pydantic found missing, in words: 'at least 1'."""
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than":
            return f"above {_number(context['gt'])}"
        case "greater_than_equal":
            return f"at least {_number(context['ge'])}"
        case "less_than":
            return f"below {_number(context['lt'])}"
        case "less_than_equal":
            return f"at most {_number(context['le'])}"
        case "literal_error":
            return f"one of {context['expected'].replace(' or ', ', ')}"
        case kind if kind in _DEMANDS:
            return _DEMANDS[kind]
    return str(error["msg"])


_DEMANDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "string_unicode": "a string of Unicode characters",
    "string_pattern_mismatch": "a string without NUL characters",
    "bool_type": "true or false",
    "tuple_type": "a list",
}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _told(value: Any) -> str:
    """A value in one line of a message, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of so many digits"
    return one_line(text)


def one_line(text: str) -> str:
    """A user's text as part of a message: escaped where it isn't printable, cut where it is long."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def to_mapping(section: Any) -> dict[str, Any]:
    """Plain values of a section, None left out (TOML has no null: an absent key is the default)."""
    found = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}
    return {key: _plain(value) for key, value in found.items() if value is not None}


def stable_repr(section: Any, name: str) -> str:
    """The repr that the section `name` would have if no setting had been renamed or added: what checkpoints know it by.

    An added setting is left out at the value all runs before it had.
    """
    pairs = with_first_names(name, {f.name: getattr(section, f.name) for f in dataclasses.fields(section)})
    return f"{type(section).__name__}({', '.join(f'{key}={value!r}' for key, value in pairs.items())})"


def section_table(section: Any) -> tomlkit.items.Table:
    """A TOML table of a section: every field, its doc as a comment above it."""
    table = tomlkit.table()
    for name, field in section.__pydantic_fields__.items():
        value = getattr(section, name)
        if field.description:
            table.add(tomlkit.comment(" ".join(field.description.split())))
        if value is None:
            table.add(tomlkit.comment(f"{name} = (chosen by mneme)"))
        else:
            table.add(name, _plain(value))
    return table


def parse_override(text: str) -> tuple[list[str], Any]:
    """`crosscoder.k=64` -> (['crosscoder', 'k'], 64); the value is read as TOML, else as a plain string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set takes SECTION.KEY=VALUE, for example crosscoder.k=64, not {_told(text)}")
    try:
        parsed: Any = tomllib.loads(f"x = {value.strip()}")["x"]
    except (
        ValueError,
        RecursionError,
    ):  # no TOML; or a number of thousands of digits, or lists in lists in lists
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
    return list(value) if isinstance(value, tuple) else value
