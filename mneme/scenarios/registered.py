"""Predictions written down before their outcomes are measured, so that nothing of them can have been chosen by these.

    register   organism and run are made; what the run says of each category goes to FOLDER/NAME-seed-S.json
    measure    outcomes of a registered organism go to FOLDER/NAME-seed-S.outcomes.json, held against that file

A registered file names the SHA-256 of the protocol and of the list it was made under, and ends with one of its own
content. Both are checked before anything is measured: a protocol or prediction that was changed since is refused.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd

from mneme._util.errors import ConfigError, DivergedError
from mneme._util.files import write_text
from mneme.scenarios.run import make_run, measure_run_of
from mneme.scenarios.spec import LIST, Scenario
from mneme.scenarios.suite import Suite, result_key
from mneme.store.queries import tables
from mneme.store.queries.effects import baselines, effects, nll_margin
from mneme.store.run import Run
from mneme.verdict.calls import rates, with_calls

_PREDICTED = (
    "category",
    "verdict",
    "reason",
    "affected_share",
    "affected_share_low",
    "affected_share_high",
    "nll_change",
    "nll_change_low",
    "nll_change_high",
    "effect",
    "direction",
)

DESTROYED = 2.0
"""Nats per token: where NLL rose by more in every category, there is no side effect to tell from the rest."""


def register(
    suite: Suite, scenario: Scenario, seed: int, folder: str | Path, protocol: str | Path, listed: Path = LIST
) -> Path:
    """Make a scenario's organism and run, and write down what the run says; returns the file.

    A registered scenario stays as it is: nothing is made again. Raises ConfigError where the file that is there was
    made under another protocol, list or settings, or the scenario has its outcomes measured already.
    """
    file = _file(folder, scenario, seed)
    facts = {
        "scenario": scenario.name,
        "title": scenario.title,
        "kind": scenario.kind,
        "seed": seed,
        "key": result_key(suite, scenario, seed),
        "protocol_sha256": _sha256(Path(protocol)),
        "list_sha256": _sha256(listed),
    }
    if file.exists():
        before = _read(file)
        if any(before.get(name) != value for name, value in facts.items()):
            raise ConfigError(
                f"{file} was registered under another protocol, list or settings: it stays as it is;"
                " register under another name"
            )
        return file
    folder_of = suite.out / scenario.name / f"seed-{seed}"
    whole: dict[str, Any] = facts | {"made": datetime.date.today().isoformat()}
    try:
        run = make_run(suite, scenario, seed, folder_of)
    except DivergedError as error:
        whole |= {"not_scored": f"training diverged: {error}"}
    else:
        if len(tables.outcomes(run)):
            raise ConfigError(
                f"{run.path} has outcomes already: only what was not measured can be registered"
            )
        whole |= _predictions(run)
    write_text(file, json.dumps(whole | {"sha256": _digest(whole)}, indent=1) + "\n")
    return file


def measure_registered(
    suite: Suite, scenario: Scenario, seed: int, folder: str | Path, protocol: str | Path, listed: Path = LIST
) -> Path:
    """Measure a registered scenario's outcomes and hold its registered predictions against them; returns the file.

    Raises ConfigError where nothing is registered, and where protocol, list or predictions were changed since.
    """
    file = _file(folder, scenario, seed)
    if not file.exists():
        raise ConfigError(f"{file} is not there: register {scenario.name} before its outcomes are measured")
    kept = _read(file)
    for name, path in (("protocol_sha256", Path(protocol)), ("list_sha256", listed)):
        if kept[name] != _sha256(path):
            raise ConfigError(f"{path} was changed after {file.name} was registered: bring it back as it was")
    target = file.with_suffix(".outcomes.json")
    whole: dict[str, Any] = {"scenario": scenario.name, "seed": seed, "predictions_sha256": kept["sha256"]}
    if "not_scored" in kept:
        whole |= {"not_scored": kept["not_scored"]}
    elif scenario.outcome != "none":  # a null has no outcomes: whatever it calls is false
        run = measure_run_of(suite, scenario, seed, suite.out / scenario.name / f"seed-{seed}")
        whole |= _held_against(kept, run)
    write_text(target, json.dumps(whole, indent=1) + "\n")
    return target


def _predictions(run: Run) -> dict[str, Any]:
    """What a run says of each category, and what the baselines do."""
    called, others = effects(run), baselines(run)
    named = [name for name in _PREDICTED if name in called.columns]
    rise = called["nll_change"].dropna()
    destroyed = len(rise) > 0 and bool((rise > DESTROYED).all())
    return (
        {"not_scored": f"the base is destroyed: NLL up by more than {DESTROYED:g} nats everywhere"}
        if destroyed
        else {}
    ) | {
        "verdict": run.info().get("verdict_sentence", ""),
        "nll_margin": nll_margin(run),
        "predictions": _records(called[named].sort_values("category")),
        "baselines": _records(others),
    }


def _held_against(kept: dict[str, Any], run: Run) -> dict[str, Any]:
    """The outcomes, and the registered verdicts' calls: not those of the run as it is now."""
    measured = effects(run)
    outcomes = measured[
        [c for c in measured.columns if c.startswith("change") or c in ("category", "proven")]
    ]
    predicted = pd.DataFrame(kept["predictions"])
    joined = with_calls(predicted[["category", "verdict"]].merge(outcomes, on="category"), kept["nll_margin"])
    found = rates(call or "" for call in joined["call"])
    return {
        "calls": dict(found.counts),
        "share_decided": found.share_decided,
        "precision": found.precision,
        "outcomes": _records(joined),
    }


def _file(folder: str | Path, scenario: Scenario, seed: int) -> Path:
    return Path(folder) / f"{scenario.name}-seed-{seed}.json"


def _read(file: Path) -> dict[str, Any]:
    """A registered file whose content is as it was written. Raises ConfigError for any other."""
    try:
        whole: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        digest = whole.pop("sha256")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{file} can't be read as a registered prediction: restore it ({error})") from error
    if digest != _digest(whole):
        raise ConfigError(f"{file} was changed after it was registered: bring it back as it was")
    return whole | {"sha256": digest}


def _digest(whole: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{file} can't be read ({error.strerror}): give the protocol with --protocol"
        ) from error


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=6))
    return found
