"""The whole of it on few or no changed latents, into a run's tables."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from findings.findings_world import World, make_world

from mneme.effects.config import EffectsConfig
from mneme.effects.windows import Windows
from mneme.findings import find
from mneme.findings.find import Reader, dimensions, find_findings
from mneme.findings.naming import Meaning
from mneme.store.run import Run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("find"), seed=2)


def latents_of(world: World, changed: np.ndarray) -> tuple[pd.DataFrame, torch.Tensor]:
    """Latents whose decoders differ by the planted vectors; only `changed` are called so."""
    n = world.codes.n_latents
    decoder = torch.zeros(2, n, 24)
    decoder[1, world.moved.latent] = torch.from_numpy(world.moved.vector).float()
    verdict = np.full(n, "unchanged", dtype=object)
    verdict[changed] = "redirected"
    norms = decoder.norm(dim=2).numpy()
    frame = pd.DataFrame(
        {
            "latent": np.arange(n), "verdict": verdict, "turned": True, "probe": "tuned", "beta_base": 0.0,
            "beta_tuned": 1.0, "norm_base": norms[0], "norm_tuned": norms[1], "decoder_cosine": 0.0,
            "log_ratio": 0.0, "firing_rate": 0.1, "mean_activation": 1.0,
        }
    )  # fmt: skip
    return frame, decoder


def found_in(world: World, changed: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> find.Findings:
    def meaning(found, directions, *_):  # naming has tests of its own; here one context each
        n = len(found)
        contexts = pd.DataFrame(
            {
                "latent": np.arange(n), "rank": 0, "quantile": 0, "split": "train", "document": 0, "position": 1,
                "start": 0, "tokens": [["a", "b"]] * n, "activations": [[0.5, 1.0]] * n, "kl": [[None, 0.1]] * n,
                "nll_change": [[None, 0.1]] * n,
            }
        )  # fmt: skip
        lens = pd.DataFrame(
            {
                "latent": np.arange(n),
                "model": "tuned",
                "direction": "top",
                "rank": 0,
                "token": "a",
                "logit": 1.0,
            }
        )
        labels = pd.DataFrame({"latent": np.arange(n), "label": "x", "method": "offline", "detail": "{}"})
        return Meaning(contexts, lens, labels)

    monkeypatch.setattr(find, "meaning", meaning)
    document = world.cache.document.astype(np.int64)
    windows = Windows(document, np.arange(30), np.bincount(document), [""] * 30)
    weights = np.stack([np.arange(30) < 10, np.arange(30) >= 10], axis=1).astype(float)
    assigned = SimpleNamespace(
        taxonomy=SimpleNamespace(keys=["one", "other"]), windows=windows, weights=weights
    )
    reader = Reader((), None, SimpleNamespace(top_contexts=20), lambda contexts, lens: [])
    frame, decoder = latents_of(world, changed)
    config = EffectsConfig(replicates=20)
    return find_findings(world.cache, world.codes, frame, decoder, assigned, reader, config)


@pytest.mark.parametrize("n", [0, 1, None])
def test_few_or_no_changed_latents_fill_the_tables(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int | None
) -> None:
    changed = world.moved.latent[:n]
    found = found_in(world, changed, monkeypatch)
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:
        for table, rows in found._asdict().items():
            writer.append(table, rows)
    told = run.findings()
    whole = told[told["parent"].isna()]
    if n == 0:
        assert told.empty
        return
    assert whole["rank"].tolist() == list(range(len(whole)))
    assert run.rows("SELECT count(*) FROM finding_categories") == [(2 * len(told),)]
    held = run.sql(
        "SELECT latent, share FROM finding_latents WHERE home AND finding IN"
        " (SELECT finding FROM findings WHERE parent IS NULL)"
    )
    assert held["latent"].is_unique and set(held["latent"]) <= set(changed.tolist())
    assert held["share"].sum() == pytest.approx(whole["share"].sum())
    if n == 1:
        assert whole["n_latents"].tolist() == [1] and whole["share"].tolist() == pytest.approx([1])
        assert whole["dimensions"].tolist() == [1] and whole["main_share"].tolist() == pytest.approx([1])
    else:
        assert len(whole) > 1 and 0.5 < whole["share"].sum() <= 1 + 1e-9


def test_dimensions_hold_nine_tenths() -> None:
    assert [dimensions(np.array(s)) for s in ([1.0], [0.9, 0.1], [0.5, 0.3, 0.2], [0.0])] == [1, 1, 3, 1]
