"""Whatever a setting is given: one line says what is wrong with it, or it survives the settings file.

The fields come from the sections themselves, so that a new one is tried as it is added.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from typing import Any

import pytest
import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mneme._util.errors import UserError
from mneme._util.settings import from_mapping, section_table
from mneme.config import make_config
from mneme.config.run_config import SECTIONS
from mneme.organisms import METHODS

MODELS = {"base": "a", "tuned": "b"}
PLAIN = make_config(MODELS)
FIELDS = [(name, field.name) for name, cls in SECTIONS.items() for field in dataclasses.fields(cls)]
SOURCES = ["base", "tuned", "corpus", "load_crosscoder"]

NUMBERS = (
    "nan inf -inf 0 -0.0 1 -1 2 0.5 -0.5 1.5 1e-300 1e300 1e400 -1e300 5e-324 1e-9 2147483647 2147483648"
)
HUGE = ["1" + "0" * 18, "9" * 19, "-" + "9" * 30, "1" + "0" * 400, "9" * 5000]
OTHERS = [
    "", "''", "true", "false", "[]", "['x']", "[1, nan]", "[[]]", "{}", "{a = 1}", "1979-05-27", "3\nx=4", "3\n[y]",
    "auto", "'\\u0000'", '"\\u0000"', '"\\uFFFF"', "\udcff", "x\ty", '"\\r\\n"', "[" * 3000, "0x10", "1_000", "'''",
]  # fmt: skip
TEXTS = [*NUMBERS.split(), *HUGE, *OTHERS]
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.text(max_size=8),
    st.text(max_size=8).map(lambda text: tomlkit.item(text).as_string() if text.isprintable() else text),
    st.lists(st.one_of(st.text(alphabet="ab,=.", max_size=3).map(repr), st.integers().map(str)), max_size=3).map(
        lambda items: f"[{', '.join(items)}]"
    ),
)  # fmt: skip


def check(overrides: list[str]) -> bool:
    """Whether the settings can be; fails where neither one line refuses them nor TOML keeps them."""
    try:
        made = make_config(MODELS, overrides)
    except UserError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 6000
        return False
    name = overrides[0].split(".")[0]
    if name in SECTIONS:  # alone, which is quicker than the whole file
        document = tomlkit.document()
        document.add(name, section_table(getattr(made, name)))
        text = tomlkit.dumps(document)
        values = {**MODELS, **tomllib.loads(text.encode().decode())}
        assert make_config(values) == dataclasses.replace(PLAIN, **{name: getattr(made, name)})
    else:
        assert make_config(tomllib.loads(made.to_toml().encode().decode())) == made
    return True


def edges(cls: type, key: str) -> list[str]:
    """The bounds of a field, what lies just inside and outside them, and its default."""
    field = cls.__pydantic_fields__[key]  # type: ignore[attr-defined]
    parts: list[Any] = [*field.metadata, *getattr(field.annotation, "__args__", ())]
    parts += [
        meta for part in parts for found in getattr(part, "__metadata__", ()) for meta in found.metadata
    ]
    limits = [
        getattr(part, side) for part in parts for side in ("ge", "gt", "le", "lt") if hasattr(part, side)
    ]
    found = {field.default, *limits, *(limit + by for limit in limits for by in (-1, 1))}
    found |= {math.nextafter(limit, to) for limit in limits for to in (-math.inf, math.inf)}
    return [str(value) for value in found if value is not None]


@pytest.mark.parametrize(("section", "key"), FIELDS, ids=lambda name: name)
def test_every_field_refuses_in_one_line_or_survives_toml(section: str, key: str) -> None:
    for text in [*TEXTS, *edges(SECTIONS[section], key)]:
        check([f"{section}.{key}={text}"])


@pytest.mark.parametrize("key", SOURCES)
def test_every_source_refuses_in_one_line_or_survives_toml(key: str) -> None:
    for text in TEXTS:
        check([f"{key}={text}"])


@settings(derandomize=True, max_examples=600, deadline=None)
@given(field=st.sampled_from(FIELDS), text=VALUES)
@example(field=("interpret", "window"), text="1")
def test_any_field_takes_any_value_or_says_why_not(field: tuple[str, str], text: str) -> None:
    check([f"{field[0]}.{field[1]}={text}"])


@pytest.mark.parametrize(("section", "key"), FIELDS, ids=lambda name: name)
def test_every_number_has_bounds(section: str, key: str) -> None:
    """Neither side of a number is open, and none is NaN or infinite."""
    field = SECTIONS[section].__pydantic_fields__[key]  # type: ignore[attr-defined]
    if isinstance(field.default, bool) or not any(kind in str(field.annotation) for kind in ("int", "float")):
        return
    for text in ("nan", "inf", "-inf", "9" * 19, "-" + "9" * 19, "1e300", "-1e300"):
        assert not check([f"{section}.{key}={text}"])


@pytest.mark.parametrize("method", METHODS)
def test_methods_refuse_in_one_line_or_survive_toml(method: str) -> None:
    cls = METHODS[method].config
    for key in cls.__pydantic_fields__:
        for text in TEXTS:
            value = tomllib.loads(f"x = {text}")["x"] if text in NUMBERS.split() else text
            try:
                made = from_mapping(cls, {key: value}, "")
            except UserError as error:
                assert "\n" not in str(error)
                continue
            document = tomlkit.document()
            document.add("m", section_table(made))
            assert from_mapping(cls, tomllib.loads(tomlkit.dumps(document))["m"], "") == made
