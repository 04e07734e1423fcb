"""What could have been found, in the report: a sentence, the channels, and each category's weakest."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from mneme.power.summary import overall, weakest
from mneme.report.build import build_report
from mneme.report.html import to_html
from mneme.report.jsonform import to_json
from mneme.report.markdown import to_markdown
from mneme.report.write import to_csv
from mneme.store.run import Run
from mneme.testing.synthetic import make_synthetic_run


def test_every_form_tells_the_power(plain_run: Run) -> None:
    report = build_report(plain_run)
    table = plain_run.sql("SELECT * FROM power")
    found = overall(table)
    said = f"In {found['n_enough']:.0f} of {found['n_categories']:.0f} categories"
    assert report.power.sentence.startswith(said)
    assert {c.channel for c in report.power.channels} == {"latents", "activations", "nll"}
    least = weakest(table).set_index("category")["at_margin"].astype(float)
    assert sorted(c.at_margin or 0.0 for c in report.power.categories) == sorted(least)
    # the least power first, with the reason
    assert (
        report.power.categories[0].at_margin == 0 and report.power.categories[0].reason == "too little text"
    )
    for text in (to_html(report), to_markdown(report)):
        assert said in text and "too little text" in text and "none of those tried" in text
    assert json.loads(to_json(report))["power"]["sentence"] == report.power.sentence
    rows = list(csv.DictReader(io.StringIO(to_csv(plain_run, "power").decode())))
    assert len(rows) == len(table) and rows[0]["category"] == ""


def test_a_run_made_before_says_not_measured_and_the_command(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=60, contexts=2, documents=20)
    with run.stage_writer() as writer:
        writer.connection.execute("DELETE FROM power")
    report = build_report(run)
    assert report.power.sentence == "" and not report.power.channels
    assert any(part.command == "mneme power ." for part in report.not_measured)
    assert "What could have been found" not in to_html(report)
    assert "mneme power ." in to_markdown(report)
