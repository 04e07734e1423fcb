"""Checks of a finished run: null pairs and other seeds, written where the pages read them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mneme._util.errors import ConfigError, RunError
from mneme.crosscoder import Crosscoder
from mneme.run.nulls import run_nulls
from mneme.run.seeds import seed_dictionaries
from mneme.run.stability import run_stability
from mneme.store.run import Run


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def test_nulls_are_measured_and_kept(run: Run, whole_run: Run) -> None:
    table, margin, min_affected_share = run_nulls(run.path, benign=[whole_run.path])
    assert len(table) == 3 and table["kind"].iloc[2] == f"benign: {whole_run.path.name}"
    saved = run.sql("SELECT * FROM nulls")
    assert saved["kind"].tolist() == table["kind"].tolist()
    assert (saved["rate"] == saved["n_false"] / saved["n"]).all()
    assert ((saved["ci_low"] <= saved["rate"]) & (saved["rate"] <= saved["ci_high"])).all()
    # The same pair as itself rounded: nothing may be called changed.
    assert saved["n_false"].iloc[0] == 0
    assert margin >= 0.2
    asked = run.rows("SELECT value, status FROM health WHERE metric = 'null_margin'")
    assert asked == [(margin, "ok" if margin == 0.2 else "warn")]
    assert saved["affected_share"].isna().tolist() == [
        False,
        True,
        False,
    ]  # the shuffled one has no dictionary of its own
    assert saved["n_affected"].iloc[0] == 0 == saved["affected_share"].iloc[0]
    asked = run.rows("SELECT value FROM health WHERE metric = 'null_affected_share'")
    assert asked == [(min_affected_share,)] and min_affected_share == max(
        0.125, saved["affected_share"].max()
    )


def test_the_report_and_the_sentence_are_brought_up_to_date(run: Run) -> None:
    report = run.path / "report" / "report.md"
    assert "base against itself" not in report.read_text(encoding="utf-8")
    with run.stage_writer() as writer:
        writer.set_info(verdict_sentence="before")
    run_nulls(run.path)
    assert "base against itself" in report.read_text(encoding="utf-8")
    assert run.info()["verdict_sentence"].endswith(".")


def test_the_null_dictionary_is_not_trained_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_nulls(run.path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("mneme.crosscoder.train.train_crosscoder", never)
    monkeypatch.setattr("mneme.crosscoder.train_crosscoder", never)
    second = run_nulls(run.path)
    assert first.table.equals(second.table)


def test_stability_is_written_for_live_latents(run: Run) -> None:
    told = run_stability(run.path, seeds=2)
    assert [path.relative_to(run.path).as_posix() for path in seed_dictionaries(run)] == [
        "seeds/1",
        "seeds/2",
    ]
    latents = run.latents()
    live = latents["verdict"] != "dead"
    assert (
        latents.loc[live, "seeds_found"].isin([0, 1, 2]).all() and (latents.loc[live, "n_seeds"] == 2).all()
    )
    assert (latents.loc[live, "stability"] == latents.loc[live, "seeds_found"] / 2).all()
    assert latents.loc[~live, ["stability", "seeds_found", "n_seeds"]].isna().all(axis=None)
    assert told["latents"] == pytest.approx(latents.loc[live, "stability"].mean())
    assert np.isfinite(told["pw_mcc"])
    assert 0 <= told["categories"] <= 1 and 0 <= told["resampled"] <= 1
    metrics = {
        "seed_persistence": "latents",
        "resampled_persistence": "resampled",
        "change_r2": "r2",
        "category_persistence": "categories",
    }
    for metric, name in metrics.items():
        [(value,)] = run.rows("SELECT value FROM health WHERE metric = ?", [metric])
        assert value == told[name] or (np.isnan(value) and np.isnan(told[name]))
    report = (run.path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Dictionaries of other seeds, each from a start of its own, find" in report
    assert "of 2 seeds" in report
    findings = run.findings()
    whole = findings["parent"].isna()
    assert (findings.loc[whole, "n_seeds"] == 2).all() and findings.loc[~whole, "n_seeds"].isna().all()
    assert findings.loc[whole, "seeds_found"].isin([0, 1, 2]).all()


def test_a_latent_counts_the_dictionaries_that_have_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: one other seed has the same latents in another order but for three, one has none of them."""
    own = Crosscoder.from_pretrained(run.path / "crosscoder")
    same, strange = copy.deepcopy(own), copy.deepcopy(own)
    order = torch.randperm(own.n_latents, generator=torch.Generator().manual_seed(4))
    for name in ("W_enc", "W_dec", "b_enc"):
        whole = getattr(own, name)
        getattr(same, name).copy_(whole[:, order] if name == "W_dec" else whole[..., order])
        noise = torch.randn(whole.shape, generator=torch.Generator().manual_seed(5))
        getattr(strange, name).copy_(noise * whole.std())
    live = run.rows("SELECT latent FROM latents WHERE verdict <> 'dead' ORDER BY latent")
    lost = [latent for (latent,) in live[:3]]
    at = torch.isin(order, torch.tensor(lost))
    same.W_enc[:, :, at] *= -1
    monkeypatch.setattr(
        "mneme.run.stability.seed_dictionary", lambda context, seed: {1: same, 2: strange}[seed]
    )
    (run.path / "seeds").mkdir()
    told = run_stability(run.path, seeds=2, resamples=0)
    found = dict(run.rows("SELECT latent, seeds_found FROM latents WHERE verdict <> 'dead'"))
    assert {latent for latent, n in found.items() if n == 0} == set(lost)
    assert set(found.values()) == {0, 1}
    assert told["latents"] == pytest.approx((len(found) - 3) / len(found) / 2)
    assert np.isnan(told["resampled"])
    again = run.findings().query("parent.isna()")
    assert (again["n_seeds"] == 2).all()


def test_only_whole_dictionaries_of_this_run_are_other_seeds(run: Run) -> None:
    assert seed_dictionaries(run) == []
    run_stability(run.path, seeds=2)
    note, weights = (run.path / "seeds" / file for file in ("1/made_from.txt", "2/model.safetensors"))
    note.write_text("other text")
    assert [path.name for path in seed_dictionaries(run)] == ["2"]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    shutil.copytree(run.path / "seeds" / "1", run.path / "seeds" / "0")
    (run.path / "seeds" / "3").mkdir()
    assert seed_dictionaries(run) == []


def test_what_cannot_be_checked_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        run_stability(run.path, seeds=0)
    with pytest.raises(ConfigError, match="at least 0"):
        run_stability(run.path, resamples=-1)
    shutil.rmtree(run.path / "activations")
    with pytest.raises(RunError, match="is not finished"):
        run_nulls(run.path)
    with pytest.raises(RunError, match="is not a run"):
        run_nulls(tmp_path / "nowhere")
