"""The report's findings."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from mneme.report import build_report, to_html, to_json, to_markdown
from mneme.report.findings import causal, rows, seeds
from mneme.report.write import to_csv
from mneme.store.queries import findings as queries
from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run


def test_every_form_tells_the_findings(plain_run: Run) -> None:
    report = build_report(plain_run)
    whole = [f for f in report.findings if not f.parent]
    assert [f.share for f in whole] == sorted((f.share for f in whole), reverse=True) and len(whole) == 3
    assert all(f.parent == whole[0].finding and not f.contexts for f in report.findings if f.parent)
    assert whole[0].contexts and whole[0].latents and whole[0].promotes
    assert report.findings_sentence in to_markdown(report).replace("\\", "")
    assert report.findings_sentence in to_html(report)
    assert json.loads(to_json(report))["findings"][0]["finding"] == whole[0].finding
    table = list(csv.DictReader(io.StringIO(to_csv(plain_run, "findings").decode())))
    assert [row["finding"] for row in table[:3]] == [f.finding for f in whole]


def test_what_is_not_tested_is_said_to_be(plain_run: Run) -> None:
    first, _, third = [f for f in build_report(plain_run).findings if not f.parent]
    assert (seeds(first), seeds(third)) == ("3 of 3", "not tested")
    assert causal(first).startswith("0.50") and causal(third) == "not tested"
    assert [row[6:] for row in rows((third,))] == [("not tested",) * 3]


def test_areas_are_those_affected_beyond_the_runs_own_share(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=200, contexts=2, documents=10)
    every = queries.findings(run)["areas"][0]
    (run.path / "run.toml").write_text("[effects]\nmin_affected_share = 0.6\n")
    fewer = queries.findings(run)["areas"][0]
    assert 0 < len(fewer) < len(every) and list(fewer) == list(every)[: len(fewer)]


def test_findings_of_python_come_with_their_parts(plain_run: Run) -> None:
    found = plain_run.findings()
    assert found["parent"].isna().sum() == 3 and found["parent"].notna().sum() == 2
    assert found["causal_share"].notna().sum() == 2


@pytest.mark.parametrize("table", ["findings", "latents"])
def test_nothing_to_tell_is_told(tmp_path: Path, table: str) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60, contexts=2, documents=10)
    with run.stage_writer() as writer:
        writer.clear(["findings", "finding_latents"])
        if table == "latents":
            writer.connection.execute("UPDATE latents SET verdict = 'unchanged'")
    report = build_report(run)
    assert report.findings == ()
    if table == "latents":
        assert "No latent changed" in to_html(report) and "No latent changed" in to_markdown(report)
