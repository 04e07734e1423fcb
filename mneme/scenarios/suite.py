"""What all scenarios share, and which of their results are already there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.setting_names import with_first_names
from mneme.scenarios.spec import Scenario

_FIRST_NAMES = {"intended_categories": "forget_categories"}
"""Fields of a scenario that had another name when keys were first made: a result outlives that too."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """What all scenarios share."""

    out: Path
    data: Path
    common: Mapping[str, Any]
    scenarios: Mapping[str, Scenario]
    quick: bool = False
    per_category: int = 40
    again: bool = False
    """Effects and evaluation of finished scenarios are made again, on what their runs hold."""
    progress: Progress = NULL_PROGRESS


def known_results(
    suite: Suite, earlier: Iterable[dict[str, Any]] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """(the results made with the settings that the suite has now, in the list's order; the jobs without one).

    They lie in the suite's folder, or else in `earlier` ones, of another machine or day.
    """
    before = {result.get("key"): result for result in earlier}
    found, missing = [], []
    for scenario in suite.scenarios.values():
        for seed in scenario.seeds:
            key = result_key(suite, scenario, seed)
            file = suite.out / scenario.name / f"seed-{seed}" / "result.json"
            result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            if result.get("key") == key:
                found.append(result)
            elif key in before:
                found.append(before[key])
            else:
                missing.append(f"{scenario.name} (seed {seed})")
    return found, missing


def result_key(suite: Suite, scenario: Scenario, seed: int) -> str:
    """SHA-256 of all the settings that a result depends on: with the same key it is not made again."""
    parent = _facts(suite.scenarios[scenario.of]) if scenario.of else None
    parts = [_facts(scenario), parent, _first_names(suite.common), seed, suite.quick, suite.per_category]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _facts(scenario: Scenario) -> dict[str, Any]:
    facts = {**dataclasses.asdict(scenario), "run": _first_names(scenario.run)}
    return {_FIRST_NAMES.get(name, name): value for name, value in facts.items()}


def _first_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings under the names that their keys are made from: a result outlives a renamed setting."""
    return {k: with_first_names(k, v) if isinstance(v, Mapping) else v for k, v in settings.items()}
