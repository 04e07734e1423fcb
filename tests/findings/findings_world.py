"""A small pair whose tuned model differs from the base by what planted groups of latents say, and some noise."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mneme.attribution.held_activations import MemoryCache
from mneme.crosscoder.codes import CodeCache, SparseCodes
from mneme.effects.explained import Directions
from mneme.organisms.planted_groups import GroupsConfig, PlantedGroups, plant_groups


class World(NamedTuple):
    cache: MemoryCache
    codes: CodeCache
    moved: Directions
    planted: PlantedGroups
    difference: np.ndarray
    """(N, d)."""


def write_codes(
    folder: Path, table: np.ndarray, latent: np.ndarray, n_latents: int, shards: int = 3
) -> CodeCache:
    codes = CodeCache(folder)
    codes.start()
    for part in np.array_split(np.arange(len(table)), shards):
        row, column = np.nonzero(table[part])
        order = np.lexsort((latent[column], row))
        values = table[part][row[order], column[order]]
        codes.write(
            SparseCodes(
                torch.from_numpy(row[order]),
                torch.from_numpy(latent[column[order]]),
                torch.from_numpy(values).float(),
            ),
            len(part),
        )
        codes._flush()
    codes.finish(n_latents)
    return codes


def make_world(folder: Path, seed: int = 0, **planted: object) -> World:
    config = GroupsConfig(
        width=24, n_groups=5, n_singles=6, sizes=(2, 4), n_documents=30, document_length=20, seed=seed
    )
    groups = plant_groups(config)
    rng = np.random.default_rng(seed)
    table = groups.codes.toarray().astype(np.float32)
    latent = np.arange(len(groups.vectors)) * 2 + 1  # every other latent is unchanged
    said = table @ groups.vectors
    base = rng.normal(size=said.shape) + 2
    difference = said + rng.normal(scale=0.2, size=said.shape)
    cache = MemoryCache(
        torch.tensor(np.stack([base, base + difference], 1), dtype=torch.float64), groups.document
    )
    cache.nll_base, cache.nll_tuned, cache.kl = (
        rng.normal(size=cache.n).astype(np.float32) for _ in range(3)
    )
    cache.nll_tuned[::3] = np.nan
    cache.kl[::3] = np.nan
    codes = write_codes(folder / "codes", table, latent, 2 * len(latent))
    return World(cache, codes, Directions(latent, groups.vectors), groups, difference)
