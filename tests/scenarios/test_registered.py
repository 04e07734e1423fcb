"""Predictions registered before outcomes are measured, and what is refused; held-out scenarios drawn by lot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from test_scenarios import call, main, place  # noqa: F401 - a fixture

from mneme._util.errors import ConfigError, DivergedError
from mneme.scenarios.lot import drawn
from mneme.scenarios.spec import Scenario
from mneme.store.queries import tables
from mneme.store.run import Run


@pytest.fixture
def protocol(place: Path) -> Path:  # noqa: F811
    file = place / "protocol.md"
    file.write_text("what is measured, and how it is scored")
    return file


def register(place: Path, *words: str) -> int:  # noqa: F811
    return call(place, "--only", "tune", *words, command="register")


def measure(place: Path) -> int:  # noqa: F811
    return call(place, "--only", "tune", command="measure")


def test_predictions_are_written_before_outcomes_and_scored_as_they_were_written(
    place: Path,  # noqa: F811
    protocol: Path,
) -> None:
    assert register(place) == 0
    file = place / "registered" / "tune-seed-0.json"
    kept = json.loads(file.read_text())
    assert kept["protocol_sha256"] == hashlib.sha256(protocol.read_bytes()).hexdigest()
    assert {p["category"] for p in kept["predictions"]} == {
        "cells",
        "money",
        "wars",
        "stars",
        "songs",
        "ships",
    }
    run = Run(place / "out" / "tune" / "seed-0" / "run")
    assert not len(tables.outcomes(run))

    before = file.read_bytes()
    assert register(place) == 0 and file.read_bytes() == before  # registered once
    assert measure(place) == 0
    found = json.loads((place / "registered" / "tune-seed-0.outcomes.json").read_text())
    assert len(tables.outcomes(run)) and found["predictions_sha256"] == kept["sha256"]
    assert sum(found["calls"].values()) == len(found["outcomes"]) == 6
    assert file.read_bytes() == before


@pytest.mark.parametrize("changed", ["protocol.md", "list.toml", "registered/tune-seed-0.json"])
def test_what_was_changed_after_registering_is_refused(
    place: Path,  # noqa: F811
    protocol: Path,
    capsys: pytest.CaptureFixture[str],
    changed: str,
) -> None:
    assert register(place) == 0
    file = place / changed
    file.write_text(
        file.read_text().replace("scored", "judged").replace('"tune"', '"Tune"').replace("0.", "1.")
    )
    assert measure(place) == 2
    said = capsys.readouterr().err
    assert file.name in said and "was changed after" in said and "bring it back" in said
    assert not (place / "registered" / "tune-seed-0.outcomes.json").exists()
    assert register(place) == 2


def test_outcomes_are_not_measured_of_what_is_not_registered(
    place: Path,  # noqa: F811
    protocol: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert measure(place) == 2
    assert "register tune before its outcomes are measured" in capsys.readouterr().err
    assert not (place / "out" / "tune").exists()


def test_what_has_outcomes_is_not_registered(
    place: Path,  # noqa: F811
    protocol: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(place, "--only", "tune") == 0  # runs and measures
    assert register(place) == 2
    assert "has outcomes already" in capsys.readouterr().err
    assert not (place / "registered").exists()


def test_a_training_that_diverged_is_told_and_not_scored(
    place: Path,  # noqa: F811
    protocol: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverges(*_: object, **__: object) -> None:
        raise DivergedError("the loss is not a number at step 3: lower learning_rate")

    monkeypatch.setattr("mneme.scenarios.run.make_organism", diverges)
    assert register(place) == 0 and measure(place) == 0
    found = json.loads((place / "registered" / "tune-seed-0.outcomes.json").read_text())
    assert "not a number at step 3" in found["not_scored"] and "calls" not in found


def scenario(name: str, kind: str) -> Scenario:
    return Scenario(name, name, kind, method="rmu")


def test_the_lot_decides_and_nothing_else() -> None:
    listed = [scenario(f"s{n}", "unlearning" if n % 2 else "drift") for n in range(12)]
    candidates = {s.name: s for s in listed}
    found = drawn(candidates, {"unlearning": 3, "drift": 2}, "abc")
    assert [s.kind for s in found] == ["unlearning"] * 3 + ["drift"] * 2
    assert found == drawn(dict(reversed(candidates.items())), {"unlearning": 3, "drift": 2}, "abc")
    assert len({drawn(candidates, {"drift": 1}, lot)[0].name for lot in "abcdefghij"}) > 2
    with pytest.raises(ConfigError, match="7 scenarios of kind drift are wanted, and the list has 6"):
        drawn(candidates, {"drift": 7}, "abc")
    with pytest.raises(ConfigError, match="lot is empty"):
        drawn(candidates, {"drift": 1}, " ")


def test_drawing_from_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    assert main(["draw", str(place / "list.toml"), "--lot", "abc", "-n", "null=1"]) == 0
    assert capsys.readouterr().out.split()[0] == "same"
    assert main(["draw", str(place / "list.toml"), "--lot", "abc", "-n", "null"]) == 2
    assert "e.g. unlearning=4" in capsys.readouterr().err
