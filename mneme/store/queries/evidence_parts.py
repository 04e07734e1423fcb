"""The parts of `mneme evidence`: what each tells, and whether it is done, running or not tested.

A part is done when its rows are in the run's tables, whichever command made them; a stage that is made again clears
the rows that were made from it. What runs is told by RUN/evidence.json, which the job writes.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pandas as pd

from mneme._util.processes import living
from mneme.store.run import Run

DONE, RUNNING, WAITING, NOT_TESTED = "done", "running", "waiting", "not tested"
FILE = "evidence.json"


class Part(NamedTuple):
    """One thing that is tested of a finished run."""

    name: str
    title: str
    tells: str
    """What it tells, after which one may ask."""
    rows: str
    """SQL: how many rows of it the run has, or whether it has all."""


PARTS = (
    Part(
        "layers",
        "Layer profile",
        "Which layers hold the difference of the predictions",
        "SELECT count(*) FROM layer_profile",
    ),
    Part(
        "causal",
        "Patching",
        "Whether the changed latents are why the predictions differ",
        "SELECT count(*) FROM causal",
    ),
    Part(
        "readout",
        "Dictionaries of one model alone",
        "What the tuned model stops using and one code for both models hides",
        "SELECT count(*) = 2 FROM read_outs",
    ),
    Part(
        "seeds",
        "Other seeds",
        "Which latents and verdicts dictionaries of other seeds find again",
        "SELECT count(*) FROM latents WHERE stability IS NOT NULL",
    ),
    Part(
        "nulls",
        "Pairs without a change",
        "How often a change is called where there is none",
        "SELECT count(*) FROM nulls",
    ),
    Part(
        "power",
        "Power, dictionary trained anew",
        "Whether a planted change is found when the dictionary is trained on it",
        "SELECT count(*) FROM power_retrained",
    ),
)
"""In the order in which the job does them. What does them: mneme/run/evidence.py."""


def is_done(run: Run, part: Part) -> bool:
    """Whether the run has it."""
    return bool(run.rows(part.rows)[0][0])


def states(run: Run) -> pd.DataFrame:
    """A row a part: part, title, tells, state, note, command."""
    job = _job(run)
    turns: list[str] = job.get("turns", []) if job.get("alive") else []
    now = job.get("part") if job.get("alive") else None
    notes: dict[str, str] = job.get("notes", {})
    rows = []
    for part in PARTS:
        note = notes.get(part.name, "")
        if is_done(run, part):
            state, note = DONE, ""
        elif part.name == now:
            state, note = RUNNING, _place(job)
        elif part.name in turns and part.name not in notes:
            state, note = WAITING, ""
        else:
            state = NOT_TESTED
        command = f"mneme evidence {run.path} --only {part.name}"
        rows.append((part.name, part.title, part.tells, state, note, command))
    return pd.DataFrame(rows, columns=["part", "title", "tells", "state", "note", "command"])


def _job(run: Run) -> dict[str, Any]:
    """What the job's file says, and whether the job lives; nothing where there is none."""
    try:
        found = json.loads((run.path / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    alive = found.get("state") == "running" and living(found.get("pid"), "mneme") is not None
    return {**found, "alive": alive}


def _place(job: dict[str, Any]) -> str:
    """How far the running part is: its last task, and the share of it that is done."""
    tasks = [task for task in job.get("tasks", []) if task.get("finished_at") is None]
    if not tasks:
        return ""
    task = tasks[-1]
    total = task.get("total")
    share = f", {min(task.get('done', 0) / total, 1):.0%}" if total else ""
    return f"{task.get('name', '')}{share}"
