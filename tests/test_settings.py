"""Settings: wrong ones are refused with the fix, right ones survive a round trip through TOML."""

from __future__ import annotations

import tomllib
from typing import Annotated, Literal

import pytest
import tomlkit
from pydantic import Field

from mneme._util.errors import ConfigError
from mneme._util.settings import Texts, from_mapping, parse_override, section, section_table, to_mapping


@section()
class Section:
    layer: int | None = Field(default=None, description="index of a layer")
    rate: Annotated[float, Field(ge=0, lt=1000)] = Field(default=0.5, description="tokens per second")
    kind: Literal["a", "b"] = "a"
    names: Texts = ()
    on: bool = True

    def __post_init__(self) -> None:
        if self.on and self.rate == 0:
            raise ValueError("rate must not be 0 where on is true")


def test_values_are_taken_and_whole_numbers_serve_as_numbers() -> None:
    assert from_mapping(Section, {"layer": 3, "rate": 2, "names": ["x"]}, "s") == Section(
        3, 2.0, names=("x",)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"laier": 3}, "s.laier.*did you mean 'layer'"),
        ({"layer": "three"}, "s.layer must be a whole number, not 'three'"),
        ({"layer": True}, "whole number"),
        ({"kind": "c"}, "s.kind must be one of 'a', 'b'"),
        ({"on": 1}, "true or false"),
        ({"names": "x"}, "must be a list"),
        ({"names": ["x", 3]}, "s.names must be a string, not 3"),
        ({"layer": 2.5}, "s.layer must be a whole number, not 2.5"),
        ({"rate": -1}, "s.rate must be at least 0, not -1"),
        ({"rate": 1000}, "s.rate must be below 1,000, not 1000"),
        ({"rate": float("nan")}, "s.rate must be a finite number, not nan"),
        ({"rate": float("inf")}, "s.rate must be a finite number, not inf"),
        ({"rate": 10**400}, r"s.rate must be .*number, not 10*…$"),
        ({"rate": 0}, "rate must not be 0 where on is true"),
    ],
)
def test_impossible_values_are_refused_with_the_fix(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Section, values, "s")


def test_a_section_survives_toml_and_explains_itself() -> None:
    section = Section(None, 0.25, "b", ("x", "y"), False)
    document = tomlkit.document()
    document.add("s", section_table(section))
    text = tomlkit.dumps(document)
    assert "# tokens per second" in text
    assert from_mapping(Section, tomllib.loads(text)["s"], "s") == section
    assert "layer" not in to_mapping(section)


@pytest.mark.parametrize(
    ("text", "keys", "value"),
    [
        ("crosscoder.k=64", ["crosscoder", "k"], 64),
        ("harvest.dtype=float32", ["harvest", "dtype"], "float32"),
        ("a.b=[1, 2]", ["a", "b"], [1, 2]),
        ("a.b=true", ["a", "b"], True),
        ('base="x=y"', ["base"], "x=y"),
    ],
)
def test_overrides_are_read_as_toml_or_as_words(text: str, keys: list[str], value: object) -> None:
    assert parse_override(text) == (keys, value)


def test_an_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SECTION\.KEY=VALUE"):
        parse_override("crosscoder.k")


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "3\n[", '"""'])
def test_an_override_that_toml_can_not_read_is_a_word(value: str) -> None:
    assert parse_override(f"a.b={value}") == (["a", "b"], value)
