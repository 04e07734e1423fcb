"""Compare two runs: matched latents with both verdicts. Effects are compared by the page, from both tables."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.errors import MnemeError, RunError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.compare.match import AGREED, Matches, by_decoder, by_firing, by_label, shared_rows
from mneme.store.queries.compare import comparable_latents
from mneme.store.run import Run, open_run
from mneme.store.seals import check_seals

_log = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """What two runs have in common."""

    method: str
    """How latents were matched: decoder, firing or label."""
    why: str
    """Why this way, in a sentence."""
    latents: pd.DataFrame
    """A row a matched pair: latent, other, similarity, agreed (bool)."""


def compare_runs(one: str | Path, other: str | Path, progress: Progress = NULL_PROGRESS) -> Comparison:
    """Match the latents of two runs, in the strictest way that they allow.

    Raises RunError where a run has no verdicts yet, or nothing fits: no common layer, text or labels.
    """
    runs = [open_run(one), open_run(other)]
    for run in runs:
        if run.finished("attribution") is None:
            raise RunError(
                f"{run.path} has no verdicts yet: `mneme run {run.path / 'run.toml'} --out {run.path}` makes them"
            )
    facts = [run.info() for run in runs]
    frames = [comparable_latents(run) for run in runs]
    with progress.task("matching latents", total=None):
        method, why, matches = _match(runs, facts, frames)
    found = pd.DataFrame(
        {
            "latent": matches.one.astype(np.int32),
            "other": matches.other.astype(np.int32),
            "similarity": matches.similarity,
            "agreed": matches.similarity >= AGREED[method],
        }
    )
    return Comparison(method, why, found.sort_values("latent", ignore_index=True))


def _match(
    runs: list[Run], facts: list[dict[str, str]], frames: list[pd.DataFrame]
) -> tuple[str, str, Matches]:
    same_place = all(facts[0].get(key) == facts[1].get(key) for key in ("base", "layer", "width"))
    same_place = same_place and all((run.path / "crosscoder" / "config.json").exists() for run in runs)
    same_pair = same_place and facts[0].get("tuned") == facts[1].get("tuned")
    found = None if same_pair else _by_firing(runs, frames)
    if found is not None:
        why = "Their models or layers differ, but not the text: latents that fire on the same tokens match."
        return "firing", why, found
    if same_place:
        from mneme.crosscoder import Crosscoder

        for run in runs:
            check_seals(run.path, ["crosscoder"])
        coders = [Crosscoder.from_pretrained(run.path / "crosscoder") for run in runs]
        live = [_live(frame, coder.n_latents) for frame, coder in zip(frames, coders, strict=True)]
        why = f"Both read layer {facts[0].get('layer')} of the same base model, so their directions can be compared."
        return "decoder", why, by_decoder(coders[0], coders[1], live[0], live[1])
    named = [frame.dropna(subset=["label"]) for frame in frames]
    if min(map(len, named)) == 0:
        raise RunError(
            "these two runs have neither a layer nor text nor labels in common: label both with `mneme run`"
        )
    from mneme.interpret.encoder import SentenceEncoder

    encoder = SentenceEncoder()
    labels = [frame["label"].astype(str).str.slice(0, 200).tolist() for frame in named]
    matches = by_label(
        encoder.embed(labels[0]),
        encoder.embed(labels[1]),
        (named[0]["latent"].to_numpy(), named[1]["latent"].to_numpy()),
    )
    why = "They share neither layer nor text, so only what their labels say can be compared."
    return "label", why, matches


def _by_firing(runs: list[Run], frames: list[pd.DataFrame]) -> Matches | None:
    """None where the runs' codes are gone or of other tokens."""
    from mneme.crosscoder import CodeCache
    from mneme.harvest.cache import ActivationCache

    caches: list[Any] = []
    for run in runs:
        if not (run.path / "codes" / "index.json").exists():
            return None
        check_seals(run.path, ("harvest", "attribution"), gone_ok=True)
        try:
            caches.append(ActivationCache(run.path / "activations"))
        except (MnemeError, OSError) as error:
            _log.debug("latents are not matched by firing: %s", error)
            return None
    rows = shared_rows(*caches)
    if not len(rows[0]):
        return None
    sizes = (int(frames[0]["latent"].max()) + 1, int(frames[1]["latent"].max()) + 1)
    return by_firing(CodeCache(runs[0].path / "codes"), CodeCache(runs[1].path / "codes"), sizes, rows)


def _live(frame: pd.DataFrame, n_latents: int) -> np.ndarray:
    alive = np.zeros(n_latents, dtype=bool)
    alive[frame.loc[~frame["dead"].fillna(False).astype(bool), "latent"].to_numpy()] = True
    return alive
