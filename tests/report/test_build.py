"""What the report says of a run, checked against the tables themselves."""

from __future__ import annotations

import io
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mneme._util.errors import RunError
from mneme.analyst import History
from mneme.attribution.reasons import REASONS
from mneme.effects.config import EffectsConfig
from mneme.effects.evaluate import degraded_outcomes
from mneme.report import build_report, capability, to_html, to_json, to_markdown
from mneme.report import phrases as words
from mneme.report.baselines import compare
from mneme.report.exports import export_table
from mneme.report.model import Score
from mneme.report.write import to_csv
from mneme.store.run import Run
from mneme.testing.synthetic import STAGES, make_synthetic_run


def test_the_most_severe_of_each_kind_come_first(plain_run: Run) -> None:
    report = build_report(plain_run, max_latents=3)
    frame = plain_run.sql("SELECT * FROM latents")
    expected = []
    for word in ("amplified", "suppressed", "redirected"):
        rows = frame[frame["verdict"] == word]
        expected += rows.sort_values("severity", ascending=False)["latent"].head(3).tolist()
    assert [x.latent for x in report.latents] == expected
    assert [x.turned for x in report.latents] == frame.set_index("latent")["turned"][expected].tolist()


def test_a_latent_carries_the_numbers_of_its_row(plain_run: Run) -> None:
    latent = build_report(plain_run, max_latents=1).latents[0]
    row = plain_run.sql("SELECT * FROM latents WHERE latent = ?", [latent.latent]).iloc[0]
    for name in (
        "beta_base",
        "beta_tuned",
        "log_ratio",
        "ci_low",
        "ci_high",
        "q_value",
        "kl",
        "nll_change",
        "severity",
    ):
        assert getattr(latent, name) == row[name]
    label = plain_run.sql("SELECT label FROM labels WHERE latent = ?", [latent.latent]).iloc[0, 0]
    assert latent.label == label
    top = plain_run.sql(
        "SELECT * FROM contexts WHERE latent = ? AND quantile = 0 ORDER BY rank LIMIT 3", [latent.latent]
    )
    assert [c.document for c in latent.contexts] == top["document"].tolist()
    assert list(latent.contexts[0].activations) == pytest.approx(list(top["activations"][0]))


def test_effects_stand_beside_their_outcomes(plain_run: Run) -> None:
    effects = build_report(plain_run).effects
    outcomes = plain_run.sql("SELECT * FROM outcomes WHERE kind = 'nll'").set_index("category")
    assert [e.effect for e in effects] == sorted((e.effect for e in effects), reverse=True)
    for e in effects:
        if e.category not in outcomes.index:
            assert e.measured_change is None and e.call == ""
            continue
        row = outcomes.loc[e.category]
        assert e.measured_change == row["change"]
        within = row["ci_low"] > -0.05 and row["ci_high"] < 0.05
        beyond = "worse" if row["ci_low"] > 0.05 else "better" if row["ci_high"] < -0.05 else "open"
        assert e.measured == ("same" if within else beyond)
        assert (e.call == "undecided") == (e.verdict == "not known")
        if (e.verdict, e.measured) in (("degraded", "worse"), ("unaffected", "same")):
            assert e.call == "confirmed"


def test_histogram_counts_every_live_latent_once(plain_run: Run) -> None:
    bins = build_report(plain_run).histogram
    delta = plain_run.sql("SELECT delta_norm FROM latents WHERE NOT dead")["delta_norm"]
    expected, _ = np.histogram(delta, bins=len(bins), range=(0, 1))
    # A value on an edge may fall to either side of it through rounding.
    assert sum(b.n for b in bins) == len(delta)
    assert np.abs(np.array([b.n for b in bins]) - expected).sum() <= 2


def test_a_better_baseline_is_named_plainly() -> None:
    scores = [
        Score("crosscoder", "spearman", "all", 0.6, None, None, 50),
        Score("mean_kl", "spearman", "all", 0.7, None, None, 50),
        Score("oracle", "spearman", "all", 0.9, None, None, 50),
        Score("crosscoder", "auroc", "all", 0.9, None, None, 50),
        Score("mean_kl", "auroc", "all", 0.8, None, None, 50),
        Score("mean_kl", "recall", "all", 0.4, None, None, 50),
        Score("crosscoder", "recall", "all", 0.5, None, None, 50),
        Score("aggregate_drop", "recall", "all", 1.0, None, None, 50),  # it calls everything
    ]
    found = compare(scores)
    assert [(c.metric, c.baseline, c.beaten) for c in found] == [
        ("spearman", "mean_kl", True),
        ("auroc", "mean_kl", False),
        ("recall", "mean_kl", False),
    ]


def test_the_report_says_where_a_baseline_did_better(plain_run: Run) -> None:
    report = build_report(plain_run)
    assert [(c.metric, c.baseline) for c in report.comparisons if c.beaten] == [
        ("pearson", "activation_difference_norm")
    ] * 2
    for shown in (to_html(report), to_markdown(report).replace("\\", "")):
        assert (
            "All categories: a baseline did better than the crosscoder in Pearson (0.960 against 0.950"
            in shown
        )


def test_calls_agree_with_the_runs_own_evaluation(plain_run: Run) -> None:
    effects, outcomes = plain_run.sql("SELECT * FROM effects"), plain_run.sql("SELECT * FROM outcomes")
    degraded = set(outcomes["category"][degraded_outcomes(outcomes, EffectsConfig().nll_margin)])
    flagged = set(effects["category"][effects["verdict"] == "degraded"])
    called = [e for e in build_report(plain_run).effects if e.verdict == "degraded" and e.call == "confirmed"]
    assert {e.category for e in called} == degraded & flagged
    assert {e.category for e in build_report(plain_run).effects if e.measured == "worse"} == degraded


def test_the_outcome_margin_is_the_runs_own(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=30, contexts=1, documents=10)
    (run.path / "run.toml").write_text("[effects]\nnll_margin = 5.0\n")
    report = build_report(run)
    assert report.outcome_margin == 5.0
    assert {e.measured for e in report.effects} == {"same", "not measured"}


@pytest.mark.parametrize("done", range(len(STAGES) + 1))
def test_an_unfinished_run_is_reported_with_what_is_missing(tmp_path: Path, done: int) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=30, contexts=2, documents=10, stages=STAGES[:done])
    report = build_report(run)
    named = " ".join(m.what for m in report.not_measured)
    for stage in STAGES:
        assert (f"(stage {stage})" in named) == (stage not in STAGES[:done])
    text = to_html(report)
    assert ("mneme run run.toml --out ." in text) == (done < len(STAGES))
    to_markdown(report), to_json(report)


def test_an_empty_run_is_reported(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.stage_writer():
        pass
    report = build_report(run)
    assert report.verdict == "" and report.latents == () and report.effects == ()
    assert "No verdict yet" in to_html(report) and "No verdict yet" in to_markdown(report)


def test_undefined_numbers_are_shown_as_not_measured(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:
        frame = pd.DataFrame(
            {
                "latent": [0, 1],
                "verdict": ["amplified", None],
                "log_ratio": [np.nan, 1.0],
                "beta_base": [np.inf, 0.0],
                "beta_tuned": [1.0, 1.0],
                "dead": [False, False],
            }
        )
        writer.replace("latents", frame)
    report = build_report(run)
    assert report.latents[0].log_ratio is None and report.latents[0].beta_base is None
    assert "NaN" not in to_json(report) and "Infinity" not in to_json(report)
    assert "nan" not in to_html(report).lower().replace("resonan", "")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run"):
        build_report(Run(tmp_path))


def test_seeds_and_versions_come_from_the_runs_files(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=1, documents=5)
    (run.path / "run.toml").write_text('base = "a"\n[crosscoder]\nseed = 7\n[harvest]\nlayer = 3\n')
    (run.path / "manifest.json").write_text('{"versions": {"torch": "2.9"}}')
    report = build_report(run)
    assert [(s.name, s.value) for s in report.seeds] == [("crosscoder", "7")]
    assert [(v.name, v.value) for v in report.versions] == [("torch", "2.9")]


@pytest.mark.parametrize("content", ["{", "[]", '{"versions": 3}'])
def test_a_damaged_manifest_is_said_and_not_fatal(tmp_path: Path, content: str) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=1, documents=5)
    (run.path / "manifest.json").write_text(content)
    report = build_report(run)
    assert report.versions == ()
    assert any("manifest.json is damaged" in m.what for m in report.not_measured)


def test_notes_are_listed_by_latent_and_escaped(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=1, documents=5)
    History(run.path).add(7, "ann", verdict="accept", note="clearly <b>biology</b>")
    History(run.path).add(3, "bob", verdict="reject")
    report = build_report(run)
    assert [(r.latent, r.verdict, r.note, r.author) for r in report.remarks] == [
        (3, "reject", "", "bob"),
        (7, "accept", "clearly <b>biology</b>", "ann"),
    ]
    assert "clearly &lt;b&gt;biology" in to_html(report)
    assert "<b>biology" not in to_markdown(report)


def test_a_damaged_notes_file_is_said_and_not_fatal(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=1, documents=5)
    (run.path / "analyst.duckdb").write_bytes(b"not a database" * 1000)
    report = build_report(run)
    assert any("analyst.duckdb can't be read" in m.what for m in report.not_measured)


def test_reviews_order_the_findings_and_edited_labels_are_marked(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=80, contexts=1, documents=5)
    before = build_report(run).latents
    worst, last = before[0].latent, before[-1].latent
    quiet = run.rows("SELECT min(latent) FROM latents WHERE verdict = 'unchanged'")[0][0]
    history = History(run.path)
    history.add(worst, "ann", verdict="reject")
    history.add(last, "ann", verdict="accept", note="<b>sure</b>", tags=["core"], label="own <i>words</i>")
    history.add(quiet, "bob", verdict="needs-work")
    report = build_report(run)
    assert [x.latent for x in report.latents[:2]] == [last, quiet] and report.latents[-1].latent == worst
    first = report.latents[0]
    assert (first.label, first.label_method, first.score) == ("own <i>words</i>", "analyst", None)
    assert first.label_automatic == before[-1].label
    html, markdown = to_html(report), to_markdown(report)
    for said in ("the analyst's own", "core", "accept"):
        assert said in unescape(html) and said in unescape(markdown).replace("\\", "")
    assert "<b>sure" not in html + markdown and "own <i>" not in html + markdown
    rows = export_table(run, "latents").to_pandas().set_index("latent")
    assert rows.loc[last, "analyst_label"] == "own <i>words</i>" and rows.loc[worst, "review"] == "reject"
    assert rows["review"].notna().sum() == 3


def test_the_quality_of_labels_stands_beside_its_baselines_in_every_form(plain_run: Run) -> None:
    report = build_report(plain_run)
    summary = (
        plain_run.sql("SELECT * FROM label_summary").set_index(["test", "negatives", "labels"]).sort_index()
    )
    assert len(report.label_quality) == 3
    for row in report.label_quality:
        means = summary.balanced_accuracy[row.test, row.negatives]
        assert (row.score, row.shuffled, row.random_latents) == (
            means["own"], means["shuffled"], means["random latent"],
        )  # fmt: skip
    labels = plain_run.sql("SELECT * FROM labels").dropna(subset=["score", "score_shuffled"])
    assert report.labels_unreliable == pytest.approx((labels.gain_low <= 0).mean())
    for text in (unescape(to_html(report)), to_markdown(report).replace("\\", "")):
        assert "78.0 % [77.0 %, 79.0 %]" in text and "aren't shown" not in text
        assert "isn't shown to beat other latents' labels" in text


def test_uncertain_latents_say_why(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=120, contexts=6, documents=40)
    report = build_report(run)
    wanted = dict(run.rows("SELECT reason, count(*) FROM latents WHERE verdict = 'uncertain' GROUP BY 1"))
    assert dict(report.uncertain_reasons) == wanted and len(wanted) > 2
    assert (
        f"Why uncertain: {report.uncertain_reasons[0][1]} {report.uncertain_reasons[0][0]}, "
        in words.moved(report)
    )
    why = run.sql("SELECT latent, verdict, reason FROM latents")
    assert (why["reason"].notna() == (why["verdict"] == "uncertain")).all()
    exported = pd.read_csv(io.BytesIO(to_csv(run, "latents")))
    assert exported["reason"].dropna().value_counts().to_dict() == wanted
    latent = int(why[why["verdict"] == "uncertain"]["latent"].iloc[0])
    with run.stage_writer() as writer:  # an uncertain latent is shown where somebody reviewed it
        writer.update_latents(pd.DataFrame({"latent": [latent], "ci_low": [None], "ci_high": [None]}))
    History(run.path).add(latent, "ann", verdict="accept")
    (shown,) = [each for each in build_report(run).latents if each.latent == latent]
    assert shown.reason in REASONS and words.latent_title(shown).endswith(f"uncertain: {shown.reason}")
    assert dict(words.latent_numbers(shown))["log ratio"].endswith(", interval undetermined")


def test_capability_is_told_apart_where_the_base_does_not_guess(plain_run: Run) -> None:
    report = build_report(plain_run)
    rows = plain_run.sql("SELECT * FROM outcomes WHERE kind = 'capability'").set_index("category")
    assert len(report.capabilities) == len(rows)
    for each in report.capabilities:
        assert each.beats_chance == (rows.loc[each.category, "chance_q"] <= 0.05)
        assert each.accuracy_tuned == pytest.approx(rows.loc[each.category, "accuracy_tuned"])
        assert (each.measured == "not measured") == (not each.beats_chance)
    shown = capability.table(report.capabilities)
    assert len(shown) == len(rows) - 1
    assert f"guessing in {len(rows) - 1} of {len(rows)} areas" in capability.sentence(report.capabilities)
    assert "Capability. Right answers" in "\n".join(to_markdown(report).splitlines())
