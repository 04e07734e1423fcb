"""`mneme read-out`: dictionaries of one model alone beside a run's crosscoder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mneme._util.errors import ConfigError
from mneme.cli import app
from mneme.report.read_out import read_outs, rows, sentence
from mneme.run import read_out as module
from mneme.run.read_out import run_read_out
from mneme.store.queries import read_out as queries
from mneme.store.run import Run


@pytest.fixture(scope="module")
def read(whole_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with both dictionaries."""
    folder = tmp_path_factory.mktemp("read-out") / "run"
    shutil.copytree(whole_run.path, folder)
    run_read_out(folder)
    return Run(folder)


def test_both_dictionaries_are_trained_read_and_judged(read: Run) -> None:
    summary = queries.summaries(read).set_index("dictionary")
    assert summary.index.tolist() == ["base", "tuned"]
    # the model against itself, rounded: nothing may be called
    assert (summary["null_n"] > 0).all() and (summary["null_n_false"] == 0).all()
    latents = read.read_out()
    counted = latents[latents["verdict"] == "suppressed"].groupby("dictionary").size()
    for name in ("base", "tuned"):
        assert summary["n_suppressed"][name] == counted.get(name, 0)
        assert (latents["dictionary"] == name).sum() == summary["n_latents"][name]
        # each reads its own model better
        other = "tuned" if name == "base" else "base"
        assert summary[f"explained_variance_{name}"][name] > summary[f"explained_variance_{other}"][name]
    assert latents.loc[latents["verdict"] != "dead", "label"].notna().all()


def test_the_strengths_are_those_of_each_models_own_reading(read: Run) -> None:
    latents = read.read_out()
    live = latents[latents["verdict"].isin(["unchanged", "amplified", "suppressed"])]
    of_base, of_tuned = (live[live["dictionary"] == name] for name in ("base", "tuned"))
    assert of_base["beta_base"].between(0.5, 1.5).mean() > 0.8
    assert of_tuned["beta_tuned"].between(0.5, 1.5).mean() > 0.8


def test_changed_latents_have_their_contexts(read: Run) -> None:
    changed = read.read_out()
    changed = changed[changed["verdict"].isin(queries.CHANGED)]
    assert len(changed)
    for row in changed.head(5).itertuples():
        found = queries.contexts(read, row.dictionary, row.latent)
        assert 1 <= len(found) <= module.CONTEXTS and found["rank"].tolist() == list(range(len(found)))
        strongest = [max(activations) for activations in found["activations"]]
        assert strongest == sorted(strongest, reverse=True) and strongest[0] > 0
    others = read.rows(
        "SELECT count(*) FROM read_out_contexts c JOIN read_out_latents l USING (dictionary, latent)"
        " WHERE l.verdict NOT IN ('amplified', 'suppressed')"
    )
    assert others == [(0,)]


def test_what_a_run_has_is_not_read_again(read: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kept_crosscoder", lambda *_: pytest.fail("trained again"))
    assert len(run_read_out(read.path)) == 2


def test_an_interrupted_check_goes_on(
    whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    run, summarise = Run(tmp_path / "run"), module._summary

    def stopped(*arguments: object) -> object:
        if arguments[-1] == "tuned":
            raise KeyboardInterrupt
        return summarise(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_summary", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_read_out(run.path)
    assert queries.summaries(run)["dictionary"].tolist() == ["base"]
    monkeypatch.setattr(module, "_summary", summarise)
    # the dictionary that was trained is kept
    monkeypatch.setattr("mneme.crosscoder.train_crosscoder", lambda *_, **__: pytest.fail("trained again"))
    assert run_read_out(run.path)["dictionary"].tolist() == ["base", "tuned"]


def test_an_unknown_dictionary_is_refused(whole_run: Run) -> None:
    with pytest.raises(ConfigError, match="no read-out dictionary 'both'"):
        run_read_out(whole_run.path, dictionaries=["both"])


def test_the_report_says_what_was_found_and_what_was_not_tested(read: Run, whole_run: Run) -> None:
    found = read_outs(read)
    assert [one.dictionary for one in found] == ["base", "tuned"]
    markdown = (read.path / "report" / "report.md").read_text(encoding="utf-8")
    html = (read.path / "report" / "report.html").read_text(encoding="utf-8")
    for one in found:
        assert f"{one.n_live:,} latents are" in sentence(one)
    assert "Dictionary of the base alone" in markdown and "Dictionary of the base alone" in html
    assert len(rows(found)) == sum(len(one.latents) for one in found)
    before = (whole_run.path / "report" / "report.md").read_text(encoding="utf-8")
    assert "mneme read-out ." in before and "mneme read-out ." not in markdown


def test_the_command_tells_each_dictionary(read: Run) -> None:
    from typer.testing import CliRunner

    said = CliRunner().invoke(app, ["read-out", str(read.path)])
    assert said.exit_code == 0, said.output
    assert "Dictionary of the base alone" in said.output and "Dictionary of the tuned model" in said.output


def test_a_run_whose_own_dictionary_is_a_read_out_runs_through_and_refuses_patching(
    whole_run: Run, tmp_path: Path
) -> None:
    from mneme.config import make_config, read_config
    from mneme.run.causal import run_causal
    from mneme.run.pipeline import run_pipeline

    config = make_config(read_config(whole_run.path / "run.toml"), ["crosscoder.variant=base"])
    run = run_pipeline(config, tmp_path / "run")
    assert run.info()["variant"] == "base" and set(run.latents()["probe"]) == {"base"}
    reasons = run.rows("SELECT DISTINCT reason FROM power WHERE channel = 'latents' AND category IS NOT NULL")
    assert not any("compete" in str(reason) for (reason,) in reasons)
    with pytest.raises(ConfigError, match=r"crosscoder\.variant = base"):
        run_causal(run.path)
