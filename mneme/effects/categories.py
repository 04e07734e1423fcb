"""Categories: the subject areas that a side effect can fall in, read from a TOML file.

    title = "My categories"
    include = ["mmlu"]            # optional: the categories of other files, too

    [tax_law]                     # the key, as outcomes name it
    name = "Tax law"
    group = "law"                 # optional
    domain = "humanities"         # optional
    description = "Tax law: income tax, deductions, returns and audits."
    examples = ["filing a tax return late"]     # optional, help the sentence encoder
    topics = ["income tax", "tax audits"]       # optional: what text is sampled about (`mneme corpus sample`)
    forms = ["explanation", "letter"]           # optional: and in which forms of prose

`data/categories` holds the ones that come with mneme: default, mmlu, mmlu_pro, harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mneme._util.errors import ConfigError, first_line
from mneme._util.reading import read_toml
from mneme._util.settings import suggest
from mneme.corpus.styles import FORMS, PROSE, Area
from mneme.models.bundled import data_folder

_FIELDS = ("name", "group", "domain", "description", "examples", "topics", "forms")
_HEADER = ("title", "include")


class Category(NamedTuple):
    """One subject area."""

    key: str
    name: str
    group: str
    domain: str
    description: str
    examples: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What the sentence encoder reads of it."""
        return (self.description, *self.examples)


class Taxonomy(NamedTuple):
    """The categories of a run, in the file's order."""

    title: str
    categories: tuple[Category, ...]

    @property
    def keys(self) -> list[str]:
        return [category.key for category in self.categories]

    def areas(self) -> list[Area]:
        """What text is sampled about; a category without topics: the parts of its description, and its examples."""
        return [
            Area(c.key, c.name, c.topics or _parts(c.description) + c.examples, c.forms or PROSE)
            for c in self.categories
        ]

    def check_names(self, setting: str, names: Iterable[str]) -> None:
        """Raises ConfigError for a name in `setting` that is no category, with the nearest one suggested."""
        for name in names:
            if name not in self.keys:
                raise ConfigError(
                    f"{setting} names {name!r}, no category of {self.title!r}: {suggest(name, self.keys)}"
                )

    def frame(self) -> pd.DataFrame:
        """Columns category, name, grp, domain, description of table `categories`."""
        return pd.DataFrame(
            [(c.key, c.name, c.group, c.domain, c.description) for c in self.categories],
            columns=["category", "name", "grp", "domain", "description"],
        )


def _parts(description: str) -> tuple[str, ...]:
    """`Tax law: income tax, deductions and audits.` -> income tax, deductions, audits."""
    listed = re.split(r",| and ", description.split(":", 1)[-1])
    return tuple(part.strip(" .") for part in listed if part.strip(" ."))


def bundled_taxonomies() -> dict[str, Path]:
    """Name -> file of the taxonomies that come with mneme."""
    return {file.stem: file for file in sorted((data_folder() / "categories").glob("*.toml"))}


def load_taxonomy(source: str | Path) -> Taxonomy:
    """A taxonomy by its name (default, mmlu, mmlu_pro, harm) or file.

    Raises ConfigError for an unknown name and for a file that can't be read, is no TOML, has unknown or
    missing fields, or names a category twice.
    """
    return _load(_locate(str(source)), ())


def _locate(source: str) -> Path:
    if source.endswith(".toml") or "/" in source:
        return Path(source)
    known = bundled_taxonomies()
    if source not in known:
        raise ConfigError(f"unknown taxonomy {source!r}: {suggest(source, known)}, or give a .toml file")
    return known[source]


def _load(file: Path, seen: tuple[Path, ...]) -> Taxonomy:
    if file.resolve() in seen:
        raise ConfigError(f"{file} includes itself: take it out of `include`")
    try:
        content = read_toml(file)
    except OSError as error:
        raise ConfigError(f"categories can't be read from {file}: {error}; name another file") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not TOML: {first_line(error)}") from error
    found: dict[str, Category] = {}
    for name in _includes(file, content.get("include", [])):
        path = _locate(name)
        path = path if path.is_absolute() or name in bundled_taxonomies() else file.parent / path
        for category in _load(path, (*seen, file.resolve())).categories:
            _add(found, category, file)
    for key, table in content.items():
        if key not in _HEADER:
            _add(found, _category(file, key, table), file)
    if len(found) < 2:
        raise ConfigError(f"{file} has {len(found)} categories: give at least two, a [table] each")
    return Taxonomy(str(content.get("title", file.stem)), tuple(found.values()))


def _includes(file: Path, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f'{file}: include must be a list of names or files, for example ["mmlu"]')
    return value


def _add(found: dict[str, Category], category: Category, file: Path) -> None:
    if category.key in found:
        raise ConfigError(f"{file}: category {category.key} is there twice: rename one")
    found[category.key] = category


def _category(file: Path, key: str, table: Any) -> Category:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{file}: unknown setting {key}: {suggest(key, _HEADER)}")
    for name in table:
        if name not in _FIELDS:
            raise ConfigError(f"{file}: unknown {name} in [{key}]: {suggest(name, _FIELDS)}")
    for name in ("name", "group", "domain", "description"):
        if not isinstance(table.get(name, ""), str):
            raise ConfigError(f"{file}: {name} of [{key}] must be text in quotes")
    if not table.get("description", "").strip():
        raise ConfigError(f"{file}: [{key}] has no description: write what belongs to it in one sentence")
    lists = {name: table.get(name, []) for name in ("examples", "topics", "forms")}
    for name, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(e, str) and e.strip() for e in value):
            raise ConfigError(f"{file}: {name} of [{key}] must be a list of texts")
    for form in lists["forms"]:
        if form not in FORMS:
            raise ConfigError(f"{file}: unknown form {form} of [{key}]: {suggest(form, FORMS)}")
    return Category(
        key,
        table.get("name", key.replace("_", " ").capitalize()),
        table.get("group", "other"),
        table.get("domain", "other"),
        table["description"].strip(),
        *(tuple(value) for value in lists.values()),
    )
