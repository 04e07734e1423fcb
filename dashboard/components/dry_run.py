"""What `mneme run --dry-run` says of a request, asked in a process of its own: models are loaded there, not here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import tomlkit

from dashboard.components import jobs, words

_PATIENCE_S = 600.0


class Answer(NamedTuple):
    """Whether the run can be made, and why not, or what it will take and what to know of the text."""

    fine: bool
    text: str


def dry_run(folder: Path, request: jobs.Request, *, patience_s: float = _PATIENCE_S) -> Answer:
    """Check all that the run would check before its work; writes nothing to the folder of runs.

    Loads both models, so it takes as long as that does. `jobs.problem_with` must have found nothing.
    """
    with tempfile.TemporaryDirectory() as place:
        settings = Path(place) / "settings.toml"
        settings.write_text(tomlkit.dumps(jobs.settings_from(folder, request)), encoding="utf-8")
        target = str(folder.resolve() / request.name)
        # --replace: what is there already is asked about when the run is started
        command = ["run", str(settings), "--out", target, "--dry-run", "--replace"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "mneme", *command],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=patience_s,
            )
        except subprocess.TimeoutExpired:
            return Answer(
                False, f"Loading the models took more than {patience_s:.0f} s: nothing is known yet."
            )
    if done.returncode == 0:
        return Answer(True, words.plain(" ".join(line.strip() for line in done.stdout.splitlines()), 1000))
    return Answer(False, words.plain(_last_line(done.stderr).removeprefix("error: "), 500))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["It ended without a word."])[-1]
