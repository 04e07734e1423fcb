"""A run's dictionaries of other seeds: RUN/seeds/SEED/, each trained on the run's own activations with the run's own
settings, from a start and an order of batches of its own.

`mneme stability` makes them; whoever asks what is found in k of n seeds reads them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from mneme.run.context import RunContext
from mneme.run.finished import is_kept, kept_crosscoder, settings_of
from mneme.store.run import Run

if TYPE_CHECKING:
    from mneme.crosscoder import Crosscoder, CrosscoderConfig

FOLDER = "seeds"


def seed_config(config: CrosscoderConfig, seed: int) -> CrosscoderConfig:
    """The run's settings with another seed: of the start and of the order of batches."""
    return dataclasses.replace(config, seed=seed)


def seed_dictionary(context: RunContext, seed: int) -> Crosscoder:
    """The dictionary of another seed: trained, or the one that is kept."""
    config = seed_config(context.config.crosscoder, seed)
    return kept_crosscoder(context, f"{FOLDER}/{seed}", config, context.cache)


def seed_dictionaries(run: Run) -> list[Path]:
    """Folders of the finished dictionaries of other seeds, by seed; `Crosscoder.from_pretrained` opens each.

    Only those of the run's settings and activations as they are now: never the run's own seed, one that was made of
    other text, or one whose file has changed.
    """
    from mneme.harvest.cache import ActivationCache

    folder = run.path / FOLDER
    seeds = sorted(int(path.name) for path in folder.glob("*") if path.name.isdecimal())
    config = settings_of(run).crosscoder
    fingerprint = ActivationCache(run.path / "activations").fingerprint if seeds else ""
    return [
        folder / str(seed)
        for seed in seeds
        if seed != config.seed and is_kept(folder / str(seed), seed_config(config, seed), fingerprint)
    ]
