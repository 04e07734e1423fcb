"""`mneme evidence`: parts are done once, a stop loses nothing, and what is not tested says so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mneme._util.errors import ConfigError, RunError
from mneme._util.progress import Progress
from mneme.run import evidence
from mneme.store.queries.evidence_parts import FILE, PARTS
from mneme.store.run import Run, open_run
from mneme.testing.synthetic import make_synthetic_run

NAMES = [part.name for part in PARTS]


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def states(run: Run) -> dict[str, str]:
    found = open_run(run.path).evidence()
    return dict(zip(found["part"], found["state"], strict=True))


def test_every_part_has_what_does_it() -> None:
    assert list(evidence._DO) == NAMES


def test_a_new_run_is_not_tested_but_for_its_layer_profile(run: Run) -> None:
    assert states(run) == {name: "done" if name == "layers" else "not tested" for name in NAMES}
    told = run.evidence().set_index("part")
    assert told.loc["seeds", "command"] == f"mneme evidence {run.path} --only seeds"


def test_parts_are_done_once_and_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.stage_writer() as writer:
        writer.clear(["layer_profile"])  # as of an earlier mneme
    before = run.layer_profile()
    assert before.empty
    assert evidence.run_evidence(run.path, only=["layers", "nulls"]) == {}
    assert states(run) == {name: "done" if name in ("layers", "nulls") else "not tested" for name in NAMES}
    assert len(open_run(run.path).layer_profile()) == 4

    def never(*_: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setitem(evidence._DO, "layers", never)
    monkeypatch.setitem(evidence._DO, "nulls", never)
    assert evidence.run_evidence(run.path, only=["nulls", "layers"]) == {}


def test_a_profile_made_later_is_the_one_the_run_was_made_with(run: Run, whole_run: Run) -> None:
    with run.stage_writer() as writer:
        writer.clear(["layer_profile"])
    evidence.run_evidence(run.path, only=["layers"])
    numbers = ["layer", "difference", "restored"]
    one, other = (open_run(each.path).layer_profile()[numbers].round(5) for each in (run, whole_run))
    assert one.equals(other)


def test_a_part_that_can_not_be_done_says_why_and_the_next_comes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(folder: Path, progress: Progress) -> None:
        raise RunError("the models are gone: name them again")

    done: list[str] = []
    for name in NAMES:
        monkeypatch.setitem(evidence._DO, name, lambda folder, progress, name=name: done.append(name))
    monkeypatch.setitem(evidence._DO, "causal", refused)
    assert evidence.run_evidence(run.path) == {"causal": "the models are gone: name them again"}
    assert done == ["readout", "seeds", "nulls", "power"]
    told = open_run(run.path).evidence().set_index("part")
    assert told.loc["causal", "state"] == "not tested"
    assert "models are gone" in told.loc["causal", "note"]


def test_while_a_part_runs_the_others_wait(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def look(folder: Path, progress: Progress) -> None:
        with progress.task("training", 10, "steps") as task:
            task.advance(3)
            found = run.evidence().set_index("part")
            seen.append(found["state"].to_dict())
            assert found.loc["causal", "note"] == "training, 30%"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence.FileProgress, "write", _at_once(evidence.FileProgress.write))
    monkeypatch.setattr(
        "mneme.store.queries.evidence_parts.living", lambda pid, program: pid == os.getpid() or None
    )
    monkeypatch.setitem(evidence._DO, "causal", look)
    monkeypatch.setitem(evidence._DO, "seeds", stop)
    with pytest.raises(KeyboardInterrupt):
        evidence.run_evidence(run.path)
    assert seen == [
        {"layers": "done", "causal": "running"}
        | dict.fromkeys(("readout", "seeds", "nulls", "power"), "waiting")
    ]
    # stopped: nothing runs and nothing waits
    assert set(states(run).values()) == {"done", "not tested"}
    assert json.loads((run.path / FILE).read_text())["state"] == "cancelled"


def _at_once(write):  # type: ignore[no-untyped-def]
    return lambda self, force=False: write(self, force=True)


def test_a_killed_job_is_not_shown_as_running_and_goes_on(run: Run) -> None:
    command = [sys.executable, "-m", "mneme", "evidence", str(run.path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while states(run)["causal"] != "done" and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = states(run)
    assert found["causal"] == "done"
    assert {"running", "waiting"}.isdisjoint(found.values())
    kept = sorted((run.path / "causal").iterdir())
    before = [file.stat().st_mtime_ns for file in kept]
    subprocess.run([*command, "--only", "nulls,seeds"], check=True, stdout=subprocess.DEVNULL)
    assert states(run)["nulls"] == states(run)["seeds"] == "done"
    assert [file.stat().st_mtime_ns for file in kept] == before


def test_sigterm_stops_it_and_says_so(run: Run) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mneme", "evidence", str(run.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (run.path / FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=60) == 130
    assert json.loads((run.path / FILE).read_text())["state"] == "cancelled"
    with open_run(run.path).stage_writer() as writer:  # nothing holds the run
        writer.set_info(name="free")


def test_bad_input_is_told(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'seeds'"):
        evidence.run_evidence(run.path, only=["seed"])
    half = make_synthetic_run(tmp_path / "half", latents=20, contexts=1, stages=("harvest",))
    with pytest.raises(RunError, match="is not finished"):
        evidence.run_evidence(half.path)


def test_the_list_says_what_is_done_and_starts_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    from mneme.cli import app

    app(["evidence", str(run.path), "--list"], standalone_mode=False)
    said = capsys.readouterr().out
    assert all(name in said for name in NAMES) and "not tested" in said
    assert not (run.path / FILE).exists()
