"""`mneme power RUN --retrain`: a dictionary trained on the displaced activations, and what it finds of them.

The positive control of a run keeps its dictionary, which has no latent for a displacement outside its decoders' span.
Here one is trained anew for each size, on the run's activations with one displacement added, and everything after it is
done again: attribution, the latents' verdicts, the category's affected share.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from mneme._util.errors import ConfigError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.vocabulary import CHANGED
from mneme.attribution.held_activations import MemoryCache
from mneme.effects.explained import confirmed_rows, directions
from mneme.effects.predict import affected_share_of, changed_steps
from mneme.effects.sums import sum_activations
from mneme.power.category import PART, choose
from mneme.power.inject import outside
from mneme.store.queries import tables
from mneme.store.queries.quality import health_values

if TYPE_CHECKING:
    from mneme.crosscoder.module import Crosscoder
    from mneme.effects.side_effects import Assigned
    from mneme.run.context import RunContext

SIZES = (0.0, 1.0, 4.0)
"""Times the margin; 0 is the same training without a displacement."""
_ACTIVE = 64  # decoders, those that write most, that the direction is orthogonal to


def run_retrained(
    folder: str | Path, *, sizes: Sequence[float] = SIZES, progress: Progress = NULL_PROGRESS
) -> pd.DataFrame:
    """Retrain with one displacement of several sizes (times the margin), and say what is found of each.

    Half of the documents of one category (of those that latents touch least, the one with most text) are displaced
    along one random direction outside the decoders' span. A row a size: category, size (share of typical), called
    (changed latents), cosine (the largest of a called latent's change and the displacement), affected_share,
    affected_share_low, affected_share_high, found; also the run's table `power_retrained`. Dictionaries are kept in the
    run's `checks/`, so a call that was stopped goes on. Raises RunError for a folder that is no finished run,
    ConfigError where no category has text enough.
    """
    from mneme.run.finished import finished_context, kept_crosscoder
    from mneme.run.power import check_ready, margin_of, text_of
    from mneme.store.seals import check_seals
    from mneme.store.writing import writing

    context, run = finished_context(folder, progress)
    check_ready(run)
    config = context.config.effects
    margin = margin_of(health_values(run), config, PART)
    rng = np.random.default_rng(config.seed)
    found = []
    check_seals(run.path, ["attribution"], progress=progress)
    with writing(run.path):
        assigned = text_of(context)
        c = _category(run.effects(), assigned, config.min_documents)
        chosen = choose(assigned.weights[:, c], assigned.windows, context.cache.n, rng)
        part = rng.permutation(chosen.document)[: max(1, round(len(chosen.document) * PART))]
        row = chosen.row[np.isin(context.cache.document[chosen.row], part)]
        direction = _direction(context, tables.latents(run), rng)
        typical = sum_activations(context.cache, assigned.windows, progress).typical
        for times in sizes:
            vector = times * margin * typical * direction
            cache = _displaced(context, row, vector)
            name = f"power-{times:g}-{config.seed}"
            crosscoder = kept_crosscoder(context, f"checks/{name}", context.config.crosscoder, cache)
            told = _told(context, crosscoder, cache, assigned, c, typical, direction)
            found.append({"category": assigned.taxonomy.keys[c], "size": times * margin, **told})
        table = pd.DataFrame(found)
        with run.stage_writer() as writer:
            writer.replace("power_retrained", table)
    return table


def _category(effects: pd.DataFrame, assigned: Assigned, least: float) -> int:
    """Of the half that latents touch least, the category with most text."""
    rows = effects[effects["n_documents"] >= least].dropna(subset=["affected_share"])
    if rows.empty:
        raise ConfigError("no category has text enough to displace a part of it: read more text (--corpus)")
    calm = rows[rows["affected_share"] <= rows["affected_share"].median()]
    return assigned.taxonomy.keys.index(calm.sort_values("n_documents", ascending=False)["category"].iloc[0])


def _direction(context: RunContext, latents: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """(d,): random, orthogonal to the decoders that write most in the run."""
    decoder = context.crosscoder.raw_decoder().cpu().numpy()
    longest = np.argmax(np.linalg.norm(decoder, axis=2), axis=0)
    probe = decoder[longest, np.arange(decoder.shape[1])]
    norm = np.linalg.norm(probe, axis=1)
    fired = np.nan_to_num((latents["n_active"] * latents["mean_activation"]).to_numpy(float))
    most = np.argsort(-fired * norm, kind="stable")[: min(_ACTIVE, decoder.shape[2] // 2)]
    found: np.ndarray = outside(probe[most] / np.maximum(norm[most], 1e-30)[:, None], 1, rng)[0]
    return found


def _displaced(context: RunContext, row: np.ndarray, vector: np.ndarray) -> MemoryCache:
    """The run's activations in memory, with a vector added to the tuned ones of some rows."""
    x = context.cache.read(0, context.cache.n).float()
    x[torch.from_numpy(row), 1] += torch.from_numpy(vector).float()
    return MemoryCache(x, context.cache.document, context.cache.position)


def _told(
    context: RunContext,
    crosscoder: Crosscoder,
    cache: MemoryCache,
    assigned: Assigned,
    c: int,
    typical: float,
    direction: np.ndarray,
) -> dict[str, object]:
    from mneme.attribution.stream import attribute

    config, progress = context.config.effects, context.progress
    with tempfile.TemporaryDirectory(dir=context.folder / "checks") as codes:
        latents = attribute(crosscoder, cache, codes, context.config.attribution, progress).latents
    decoder = crosscoder.raw_decoder()
    said = directions(latents, changed_steps(latents).sum(0), decoder)
    rows = confirmed_rows(crosscoder, cache, said, progress) if len(said.latent) else np.zeros(cache.n)
    confirmed = np.bincount(
        assigned.windows.row_window, weights=rows, minlength=len(assigned.windows.document)
    )
    affected = affected_share_of(assigned.weights[:, [c]], assigned.windows, confirmed, typical, config)
    length = np.linalg.norm(said.vector, axis=1)
    cosine = np.abs(said.vector @ direction) / np.maximum(length, 1e-30)
    return {
        "called": int(latents["verdict"].isin(CHANGED).sum()),
        "cosine": float(cosine.max(initial=0.0)),
        "affected_share": float(affected.value[0]),
        "affected_share_low": float(affected.low[0]),
        "affected_share_high": float(affected.high[0]),
        "found": bool(affected.low[0] > config.min_affected_share),
    }
