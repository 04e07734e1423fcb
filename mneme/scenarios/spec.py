"""What a scenario is, read from list.toml: an intervention, a run's settings, and what its outcome is measured on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mneme._util.errors import ConfigError
from mneme._util.reading import read_toml
from mneme._util.settings import suggest

LIST = Path(__file__).with_name("list.toml")
OUTCOMES = ("mmlu", "margin", "refusal", "none")


@dataclass(frozen=True)
class Scenario:
    """One intervention and how it is looked at; files are relative to the data folder."""

    name: str
    title: str
    kind: str
    """unlearning, drift, benign, null: which floors it counts for; or ablation: none."""
    method: str = ""
    """A method of `mneme organism`, or `noise`: the base itself, one matrix rounded anew."""
    seeds: tuple[int, ...] = (0,)
    forget: tuple[str, ...] = ()
    retain: tuple[str, ...] = ()
    learn: tuple[str, ...] = ()
    rejected: str = ""
    """Learn the rejected answers of this file of pairs, even rows, of one `topic` of the run's taxonomy."""
    topic: str = ""
    organism: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the method."""
    of: str = ""
    """The scenario whose organism is looked at again, instead of one of its own."""
    against_seed: int | None = None
    """The base is the organism of this seed: two seeds of one tune should not differ."""
    run: Mapping[str, Any] = field(default_factory=dict)
    """Nested settings of the run, over the common ones."""
    corpus: str = ""
    """A file of the data folder; `areas:WORD,WORD`: the bundled corpus' areas whose name holds one of these."""
    corpus_field: str = "text"
    outcome: str = "mmlu"
    intended_categories: tuple[str, ...] = ()
    difference_sae: bool = False

    @property
    def files(self) -> list[str]:
        """Files of the data folder that it needs."""
        named = [*self.forget, *self.retain, *self.learn, self.rejected]
        named += [] if self.corpus.startswith("areas:") else [self.corpus]
        named += {"mmlu": ["mmlu/test"], "margin": [HH], "refusal": [HARMFUL], "none": []}[self.outcome]
        return [name.partition("::")[0] for name in named if name]


HH = "hh_rlhf/harmless-base_test.jsonl.gz"
HARMFUL = "refusal/harmful_test.json"


def load_scenarios(file: str | Path = LIST) -> tuple[dict[str, Any], dict[str, Scenario]]:
    """(settings that all runs share, scenarios by name). Raises ConfigError for what can't be."""
    try:
        tables = read_toml(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} can't be read as a list of scenarios ({error})") from error
    common = tables.pop("common", {})
    known = Scenario.__dataclass_fields__
    found: dict[str, Scenario] = {}
    for name, table in tables.items():
        if unknown := next((key for key in table if key not in known), None):
            raise ConfigError(f"{file}: {name}.{unknown} is no setting: {suggest(unknown, known)}")
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            found[name] = Scenario(name=name, **values)
        except TypeError as error:
            raise ConfigError(f"{file}: {name} lacks something: {error}") from error
    for scenario in found.values():
        if scenario.of and scenario.of not in found:
            raise ConfigError(f"{file}: {scenario.name} is of {scenario.of}: {suggest(scenario.of, found)}")
        if not scenario.of and not scenario.method:
            raise ConfigError(f"{file}: {scenario.name} needs a method, or `of`")
        if scenario.outcome not in OUTCOMES:
            raise ConfigError(f"{file}: outcome {scenario.outcome}: {suggest(scenario.outcome, OUTCOMES)}")
    return common, found


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, `above` over `below`."""
    out = copy.deepcopy(dict(below))
    for key, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if nested else value
    return out
