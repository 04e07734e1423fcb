"""`mneme causal`: the run's tables, what is kept, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from damage import reseal

from mneme._util.errors import ConfigError, ModelError, RunError
from mneme._util.progress import NULL_PROGRESS
from mneme.causal.choice import weighed_documents
from mneme.config import make_config, read_config
from mneme.run.causal import run_causal
from mneme.run.context import RunContext
from mneme.store.queries import causal as queries
from mneme.store.queries import findings as finding_queries
from mneme.store.run import Run


@pytest.fixture
def run(whole_run: Run, tmp_path: Path) -> Run:
    shutil.copytree(whole_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture(scope="module")
def patched(whole_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two latents patched, which the run is made to call changed; tests only read it."""
    folder = tmp_path_factory.mktemp("causal") / "run"
    shutil.copytree(whole_run.path, folder)
    with Run(folder).stage_writer() as writer:
        writer.update_latents(pd.DataFrame({"latent": some_latents(whole_run), "verdict": "amplified"}))
    return run_causal(folder, latents=some_latents(whole_run), contexts=3, tokens=1500)


def some_latents(run: Run) -> list[int]:
    rows = run.rows("SELECT DISTINCT latent FROM contexts WHERE quantile = 0 ORDER BY 1 LIMIT 2")
    return [latent for (latent,) in rows]


def test_each_latent_has_its_patches_beside_controls(patched: Run) -> None:
    for latent in some_latents(patched):
        found = queries.of_latent(patched, latent)
        assert list(zip(found["patch"], found["source"], strict=True)) == [
            (patch, source) for patch in ("undo", "do") for source in ("latent", "other latents", "whole")
        ]
        assert (found["n_documents"] <= 3).all() and (found["n_tokens"] > 0).all()
        told = found.dropna(subset="kl_share")
        assert np.allclose(told["kl_share"], 1 - told["kl_after"] / told["kl_before"])
        ablated = queries.ablations(patched, latent)
        assert ablated["model"].tolist() == ["base", "tuned"] and (ablated["kl"] >= 0).all()


def test_findings_are_patched_beside_pca_of_their_rank(patched: Run) -> None:
    findings = patched.findings().query("parent.isna()")
    assert len(findings)
    for finding in findings["finding"].head(5):
        found = finding_queries.causal(patched, finding).set_index("source")
        assert {"finding", "pca", "random direction"} <= set(found.index)
        assert np.allclose(found["kl_before"], found["kl_before"].iloc[0])
    before = queries.together(patched)["kl_before"].iloc[0]
    assert found["kl_before"].iloc[0] == pytest.approx(before), "the same documents"


def test_before_is_what_plain_forward_passes_give(patched: Run) -> None:
    """All changed latents are tried on whole documents, chosen by what the harvest measured on their beginnings."""
    together = queries.together(patched)
    whole = together.set_index(["patch", "source"]).loc[("undo", "whole")]
    assert whole["kl_after"] == pytest.approx(0, abs=1e-4) and whole["kl_share"] == pytest.approx(1, abs=1e-3)

    context = RunContext(
        make_config(read_config(str(patched.path / "run.toml"))), patched.path, NULL_PROGRESS
    )
    cache, pair, stride = context.cache, context.pair, context.config.harvest.context_length - 1
    total = n = 0.0
    for document, weight in weighed_documents(cache, 1500).items():
        here = cache.document == document
        ids, measured = cache.document_tokens(document).tolist(), cache.kl[here]
        kl = np.full(len(ids), np.nan)
        for start in range(0, len(ids), stride):
            part = torch.tensor([[pair.tokenizer.bos_token_id, *ids[start : start + stride]]])
            with torch.no_grad():
                p, q = (
                    m._module(part).logits[0, 1:].double().log_softmax(-1) for m in (pair.base, pair.tuned)
                )
            kl[start : start + stride] = (p.exp() * (p - q)).sum(-1)
        kl = kl[cache.position[here]]
        assert np.isfinite(measured).any()
        np.testing.assert_allclose(measured[np.isfinite(measured)], kl[np.isfinite(measured)], atol=1e-3)
        kl = kl[cache.position[here] < len(ids) - 1]  # the last prediction nobody can check
        total, n = total + weight * kl.sum(), n + weight * len(kl)
    assert whole["kl_before"] == pytest.approx(total / n, rel=1e-2)


def test_what_was_measured_is_not_measured_again(patched: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = patched.sql("SELECT * FROM causal ORDER BY ALL")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("mneme.run.causal.measure", never)
    run_causal(patched.path, latents=some_latents(patched), contexts=3, tokens=1500)
    assert patched.sql("SELECT * FROM causal ORDER BY ALL").equals(before)


def test_what_is_done_when_interrupted_is_kept_and_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mneme.run import causal as module

    calls, real = [], module.measure

    def two_then_stop(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(module, "measure", two_then_stop)
    first, second = some_latents(run)
    with pytest.raises(KeyboardInterrupt):
        run_causal(run.path, latents=[first, second], contexts=2, tokens=0)
    assert len(queries.of_latent(run, first)) == 6 and queries.of_latent(run, second).empty
    monkeypatch.setattr(module, "measure", real)
    (run.path / "causal" / "latent-9.npz").write_bytes(b"PK half a file")
    run_causal(run.path, latents=[first, second], contexts=2, tokens=0)
    assert len(queries.of_latent(run, second)) == 6


def test_the_report_tells_it(patched: Run) -> None:
    report = json.loads((patched.path / "report" / "report.json").read_text(encoding="utf-8"))
    listed = {row["latent"] for row in report["causal"]["latents"]}
    assert listed == set(some_latents(patched))
    assert "causal.csv" in {file.name for file in (patched.path / "report").iterdir()}


def test_what_can_not_be_patched_is_refused_in_one_line(run: Run, cli: Any) -> None:
    code, _, error = cli("causal", run.path, "--latents", "4711")
    assert code == 2 and "no latent 4711" in error and "\n" not in error.strip()
    code, _, error = cli("causal", run.path, "--latents", "one")
    assert code == 2 and "numbers with commas" in error
    with pytest.raises(ConfigError, match="at least 1"):
        run_causal(run.path, contexts=0)
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE latents SET verdict = 'unchanged'")
    with pytest.raises(RunError, match="no latent changed: name"):
        run_causal(run.path)
    index = run.path / "activations" / "index.json"
    index.write_text(index.read_text().replace('"pair": "', '"pair": "0'))
    reseal(run)
    with pytest.raises(ModelError, match="have changed since"):
        run_causal(run.path, latents=some_latents(run), tokens=0)
    settings = run.path / "run.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace(_named(text, "tuned"), "/no/such/model"), encoding="utf-8")
    with pytest.raises(ModelError, match="/no/such/model"):
        run_causal(run.path, latents=some_latents(run), tokens=0)
    far = text.replace("[harvest]", '[harvest]\nremote = "ndif"')
    settings.write_text(re.sub("(?m)^behaviour_share = .*", "behaviour_share = 0.0", far), encoding="utf-8")
    reseal(run)
    with pytest.raises(ModelError, match="a server runs"):
        run_causal(run.path, latents=some_latents(run), tokens=0)
    settings.write_text(text, encoding="utf-8")
    reseal(run)
    index.unlink()
    with pytest.raises(RunError, match="not finished"):
        run_causal(run.path)


def _named(text: str, key: str) -> str:
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith(f"{key} ="))
