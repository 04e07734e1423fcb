"""A made-up run of any size: every table filled plausibly, no model needed.

For tests, benchmarks and a first look at the dashboard. `run_info.synthetic` is 'true', so nothing can pass
it off as a finding. With `hostile=True` every text of the run attacks whoever shows it: markup, event
handlers, markdown, right-to-left and zero-width characters, very long tokens.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

import mneme
from mneme.store.run import Run, StageWriter
from mneme.testing.synthetic.causal import write_causal
from mneme.testing.synthetic.effects import write_effects, write_power, write_power_retrained
from mneme.testing.synthetic.findings import write_findings
from mneme.testing.synthetic.labels import write_labels
from mneme.testing.synthetic.latents import make_latents, write_betas, write_health
from mneme.testing.synthetic.meaning import write_contexts, write_interpretation
from mneme.testing.synthetic.texts import CATEGORIES, HOSTILE

__all__ = ["HOSTILE", "STAGES", "make_synthetic_run"]

STAGES = ("harvest", "crosscoder", "attribution", "interpretation", "labels", "effects", "findings")


def make_synthetic_run(
    path: str | Path,
    *,
    latents: int = 400,
    contexts: int = 20,
    window: int = 32,
    documents: int = 120,
    seed: int = 0,
    hostile: bool = False,
    stages: Collection[str] = STAGES,
) -> Run:
    """Write a run of `latents` latents with `contexts` contexts of `window` tokens each.

    Only the tables of `stages` are filled, so that half-finished runs can be tried too.
    """
    rng = np.random.default_rng(seed)
    run = Run(path)
    with run.stage_writer() as writer:
        _info(writer, run.name, latents, documents, hostile)
        if "harvest" in stages:
            _documents(writer, rng, documents, hostile)
            writer.replace("layer_profile", _layer_profile())
        if "crosscoder" in stages:
            _training(writer, rng)
        if "attribution" in stages:
            frame = make_latents(rng, latents)
            if "interpretation" not in stages:
                frame = frame.drop(columns=["umap_x", "umap_y"])
            writer.replace("latents", frame.drop(columns="home"))
            write_betas(writer, rng, frame)
            write_health(writer, frame)
            if "interpretation" in stages:
                write_contexts(writer, rng, frame, contexts, window, documents, hostile)
                write_interpretation(writer, rng, frame, hostile)
                write_causal(writer, np.random.default_rng(seed), frame)
            if "labels" in stages:
                write_labels(writer, rng, frame, hostile)
            if "effects" in stages:
                write_effects(writer, rng, frame, hostile)
                write_power(writer)
                write_power_retrained(writer)
            if "findings" in stages:
                write_findings(writer, np.random.default_rng(seed), frame, window, documents, hostile)
        now = datetime.datetime(2026, 1, 1, 12)
        names = [s for s in STAGES if s in stages]
        writer.replace(
            "stages",
            pd.DataFrame(
                {
                    "stage": names,
                    "fingerprint": "synthetic",
                    "seconds": np.linspace(90, 12, len(names)),
                    "peak_memory_mb": np.linspace(2900, 1400, len(names)),
                    "finished_at": [now + datetime.timedelta(seconds=90 * i) for i in range(len(names))],
                }
            ),
        )
    return run


def _info(writer: StageWriter, name: str, latents: int, documents: int, hostile: bool) -> None:
    writer.set_info(
        name=name,
        base=HOSTILE[1] if hostile else "made-up/base-135m",
        tuned=HOSTILE[4] if hostile else "made-up/base-135m-unlearned",
        layer=14,
        layer_why="the middle layer, whose stream holds 100% of the difference of the predictions",
        n_layers=30,
        width=576,
        latents=latents,
        k=32,
        variant="batchtopk",
        corpus=HOSTILE[0] if hostile else "synthetic",
        n_documents=documents,
        n_tokens=documents * 240,
        n_skipped_bos=documents,
        n_skipped_sinks=7,
        created_at="2026-01-01T12:00:00",
        mneme_version=mneme.__version__,
        verdict_sentence=" ".join(HOSTILE[:6])
        if hostile
        else "Biology, medicine and virology degraded; the other subjects show no change beyond the margin. "
        "(Made-up numbers.)",
        synthetic="true",
    )


def _documents(writer: StageWriter, rng: np.random.Generator, n: int, hostile: bool) -> None:
    keys = list(CATEGORIES)
    topics = [keys[i % len(keys)] for i in range(n)]
    frame = pd.DataFrame(
        {
            "document": np.arange(n),
            "topic": [HOSTILE[i % len(HOSTILE)] for i in range(n)] if hostile else topics,
            "n_tokens": 256,
            "n_kept": rng.integers(235, 255, n),
            "preview": [HOSTILE[i % len(HOSTILE)][:200] if hostile else "Made-up text." for i in range(n)],
        }
    )
    writer.replace("documents", frame)
    writer.replace(
        "document_categories", pd.DataFrame({"document": np.arange(n), "category": topics, "weight": 0.9})
    )


def _layer_profile() -> pd.DataFrame:
    """Of 30 layers, three changed; what comes after them is known by construction, some between were not measured."""
    layer = np.arange(30)
    restored = np.clip((layer - 4) / 8, 0, 1)
    measured = (layer >= 5) & (layer <= 12) & (layer % 2 == 1) | (layer == 12)
    exact = (layer < 5) | (layer > 12)
    restored = np.where(measured | exact, restored, np.nan)
    return pd.DataFrame(
        {
            "layer": layer,
            "changed": np.isin(layer, (5, 9, 12)),
            "difference": np.where(layer < 5, 0.0, 0.03 * (layer - 4) * np.exp((4 - layer) / 12)),
            "restored": restored,
            "restored_low": np.where(measured, restored - 0.04, restored),
            "restored_high": np.where(measured, restored + 0.03, restored),
            "exact": exact,
            "kl": 0.19,
            "n_documents": 32,
            "n_tokens": 1024,
        }
    )


def _training(writer: StageWriter, rng: np.random.Generator) -> None:
    step = np.arange(0, 3000, 25)
    rise = 1 - np.exp(-step / 500)
    writer.replace(
        "training",
        pd.DataFrame(
            {
                "step": step,
                "tokens": step * 1024,
                "loss": 600 * np.exp(-step / 400) + 190 + rng.normal(0, 4, len(step)),
                "aux_loss": 20 * np.exp(-step / 700) + 3,
                "l0": 32.0,
                "k": np.maximum(32, 200 - step / 5),
                "explained_variance_base": 0.82 * rise,
                "explained_variance_tuned": 0.80 * rise,
                "dead_share": 0.12 * np.exp(-step / 900) + 0.02,
                "learning_rate": 1e-3 * np.minimum(1, step / 200),
            }
        ),
    )
