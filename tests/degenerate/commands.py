"""Every command that takes a run, in an analyst's order, and what it is expected to end with."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from interpret.chat_server import serving

from mneme.cli import app, main

ANSWER = {"label": "a made-up label", "sentence": "It fires.", "role": "detects", "confidence": 0.5}

# RUN: the run; OTHER: another kind's; NEW: a folder that isn't there yet; MODELS: models, text and a benchmark.
COMMANDS = {
    "info": "info RUN",
    "the same again": "run RUN/run.toml --out RUN",
    "dry run": "run RUN/run.toml --out RUN --dry-run",
    "null": "null RUN",
    "power": "power RUN",
    "power retrained": "power RUN --retrain",
    "stability": "stability RUN --seeds 1",
    "causal": "causal RUN --limit 2 --contexts 2 --tokens 300",
    "causal of one": "causal RUN --latents 3 --contexts 2 --tokens 0",
    "read-out": "read-out RUN",
    "evidence": "evidence RUN --only layers,nulls,seeds",
    "evidence, all parts": "evidence RUN --list",
    "probe": "probe RUN --text a_king_on_a_mat",
    "compare": "compare RUN OTHER",
    "compare with it": "compare OTHER RUN",
    "measure": "measure RUN --benchmark MODELS/items.jsonl",
    "outcomes import": "outcomes import MODELS/results_base.json MODELS/results_tuned.json RUN",
    "evaluate": "evaluate RUN --benchmark MODELS/items.jsonl --per-category 2",
    "label dry run": "label RUN --dry-run --model tiny",
    "label": "label RUN --model tiny --set labels.llm_concurrency=1 --set labels.score_labels=false",
    "label offline": "label RUN --offline --set labels.score_labels=true",
    "report": "report RUN --out NEW",
}

APART = {
    "dashboard": "it serves until it is stopped: test_dashboard_starts.py",
    "demo": "it makes a run of the bundled pair",
    "import": "it makes a run as `run` does, of a crosscoder from elsewhere: the run `dead` is made so",
    "organism": "it makes a model, of a model and text",
    "corpus sample": "it makes text, of a model",
    "list": "it tells of a folder of runs: tests/run/test_commands_told.py",
    "clean": "it deletes what runs no longer need: tests/run/test_commands_told.py",
    "doctor": "it looks at the machine: tests/run/test_commands_told.py",
    "scenarios run": "it makes organisms and runs: tests/scenarios",
    "scenarios draw": "it reads a list of scenarios: tests/scenarios",
    "scenarios register": "it makes organisms and runs: tests/scenarios",
    "scenarios measure": "it measures scenarios' runs: tests/scenarios",
}
"""Commands that are not in COMMANDS, and why."""

REFUSED = {
    ("still", "causal"): "calls no latent changed",
    ("dead", "causal"): "calls no latent changed",
    ("single", "causal"): "calls no latent changed",
    ("dead", "causal of one"): "3",
    ("single", "power retrained"): "no category has text enough",
}
"""(kind, command): what its one line says where there is nothing to do; every other command succeeds."""


def every_command() -> list[str]:
    """All that `mneme --help` offers, those of its groups too: "run", "outcomes import", ..."""

    def below(group: Any, before: tuple[str, ...]) -> Iterator[str]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, (*before, name))
            else:
                yield " ".join((*before, name))

    return list(below(typer.main.get_command(app), ()))


class Ended(NamedTuple):
    """How a command ended."""

    code: int | None
    """None: by an exception that is no exit."""
    out: str
    err: str


def call(words: list[str]) -> Ended:
    """`mneme WORDS`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code: int | None = None
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["mneme", *words])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            err.write(traceback.format_exc())
    return Ended(code, out.getvalue(), err.getvalue())


def call_all(places: dict[str, Path]) -> dict[str, Ended]:
    """All COMMANDS, one after the other, with a labelling server that answers."""
    found = {}
    with serving(lambda number, request: json.dumps(ANSWER)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url)
        for name, words in COMMANDS.items():
            for short, place in places.items():
                words = words.replace(short, str(place))
            found[name] = call(words.split())
    return found
