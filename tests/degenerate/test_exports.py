"""The report and every export of a degenerate run hold what the tables hold, and no number that is none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from degenerate.conftest import KINDS, Amended

from mneme.report.exports import EXPORTS
from mneme.store.run import Run

NOT_A_NUMBER = re.compile(r"(?<![\w./-])(nan|NaN|None|NaT|Infinity|inf)(?![\w.])|nan%")


@pytest.mark.parametrize("made", ["by the run", "by the commands"])
@pytest.mark.parametrize("kind", KINDS)
def test_reports_and_exports_are_whole(runs: Path, amended: Amended, kind: str, made: str) -> None:
    if made == "by the run":
        run, folder = Run(runs / kind), runs / kind / "report"
    else:
        run, folder = Run(amended.runs / kind), amended.runs / "reports" / kind
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert re.split("[:;(]", run.info()["verdict_sentence"])[0] in text
        assert not NOT_A_NUMBER.search(text), name
    counts = dict(run.rows("SELECT verdict, count(*) FROM latents GROUP BY 1"))
    told = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert {word: n for word, n in told["verdict_counts"].items() if n} == counts
    for name in EXPORTS:
        text = (folder / f"{name}.csv").read_text(encoding="utf-8")
        assert not NOT_A_NUMBER.search(text), name
        assert text.count("\n") == 1 + run.rows(f"SELECT count(*) FROM {name}")[0][0]
    kept = pd.read_parquet(folder / "latents.parquet")
    assert kept["verdict"].value_counts().to_dict() == counts


def test_the_runs_are_what_they_are_called(runs: Path) -> None:
    counts = {
        kind: dict(Run(runs / kind).rows("SELECT verdict, count(*) FROM latents GROUP BY 1"))
        for kind in KINDS
    }
    assert counts == {
        "still": {"unchanged": 32},
        "dead": {"dead": 32},
        "moved": {"amplified": 32},
        "single": {"uncertain": 32},
    }


def test_one_document_is_too_rare_and_bounds_nothing(runs: Path) -> None:
    run = Run(runs / "single")
    assert run.rows("SELECT DISTINCT reason, ci_low, ci_high FROM latents") == [("too rare", None, None)]
    told = json.loads((run.path / "report" / "report.json").read_text(encoding="utf-8"))
    assert told["uncertain_reasons"] == {"too rare": 32}
    assert "32 too rare" in (run.path / "report" / "report.html").read_text(encoding="utf-8")
    for kind in ("still", "dead", "moved"):
        assert Run(runs / kind).rows("SELECT count(reason) FROM latents") == [(0,)]
