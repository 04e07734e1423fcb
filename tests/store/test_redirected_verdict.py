"""`redirected` is a verdict: runs of before say so too, and one definition of a change holds in every query."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

from mneme._util.vocabulary import CHANGED, LATENT_VERDICTS
from mneme.store import schema
from mneme.store.queries import latents as queries
from mneme.store.queries import report, triage
from mneme.store.queries.overview import look_at_first
from mneme.store.run import Run


def test_runs_of_before_say_redirected_of_what_they_counted_as_changed() -> None:
    db = duckdb.connect()
    at = schema.MIGRATIONS.index(schema.m017_redirected)
    for migration in schema.MIGRATIONS[:at]:
        migration(db)
    db.execute(
        "INSERT INTO latents (latent, verdict, redirected, reason) VALUES (0, 'amplified', true, NULL),"
        " (1, 'uncertain', true, 'too rare'), (2, 'unchanged', true, NULL), (3, 'unchanged', false, NULL),"
        " (4, 'dead', true, NULL), (5, 'uncertain', NULL, 'too rare')"
    )
    schema.m017_redirected(db)
    assert db.execute("SELECT verdict, reason, turned FROM latents ORDER BY latent").fetchall() == [
        ("amplified", None, True),
        ("redirected", None, True),
        ("redirected", None, True),
        ("unchanged", None, False),
        ("dead", None, True),
        ("uncertain", "too rare", None),
    ]


def test_one_definition_of_a_change_in_every_query(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    words = [*LATENT_VERDICTS, None]
    frame = pd.DataFrame({"latent": range(len(words)), "verdict": words, "severity": 1.0, "turned": True})
    with run.stage_writer() as writer:
        writer.replace("latents", frame)
    expected = [j for j, word in enumerate(words) if word in CHANGED]
    assert sorted(look_at_first(run)["latent"]) == expected
    assert report.most_severe(run, 5, [])["verdict"].tolist() == list(CHANGED)
    assert triage.queue(run)["latent"].tolist()[: len(expected)] == expected
    assert triage.progress(run, [])["changed"] == len(expected)
    assert queries.verdict_counts(run)["redirected"] == 1
