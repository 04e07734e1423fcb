"""The affected share that a null pair asks for, against the share that the prediction gives of the same pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from effects_world import TOML, WordEncoder, World, decode, predict

from mneme.crosscoder.codes import SparseCodes
from mneme.effects.config import EffectsConfig
from mneme.effects.null_affected_share import null_affected_share
from mneme.effects.side_effects import assign_text


class DenseCrosscoder:
    """Gives the world's own codes, batch after batch."""

    def __init__(self, world: World) -> None:
        self.world, self.n_latents, self.at = world, world.dense.shape[1], 0

    def raw_decoder(self) -> torch.Tensor:
        return self.world.decoder

    def encode_sparse(self, x: torch.Tensor) -> SparseCodes:
        dense = torch.from_numpy(self.world.dense[self.at : self.at + len(x)])
        self.at += len(x)
        row, latent = dense.nonzero(as_tuple=True)
        return SparseCodes(row, latent, dense[row, latent])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "codes")


@pytest.fixture
def config(tmp_path: Path) -> EffectsConfig:
    (tmp_path / "areas.toml").write_text(TOML, encoding="utf-8")
    return EffectsConfig(taxonomy=str(tmp_path / "areas.toml"), window=8, min_documents=2.0)


def test_latents_called_in_a_null_ask_for_the_reach_they_have(world: World, config: EffectsConfig) -> None:
    assigned = assign_text(world.cache, decode, WordEncoder(), config)
    found = null_affected_share(DenseCrosscoder(world), world.cache, world.latents, assigned, config)
    low = predict(world, config).effects["affected_share_low"].to_numpy()
    assert (
        found.n_categories == len(low) == 2
        and found.n_affected == (low > config.min_affected_share).sum() == 1
    )
    assert (
        found.affected_share == pytest.approx(np.quantile(low, config.level))
        and found.affected_share > config.min_affected_share
    )


def test_where_no_latent_is_called_nothing_is_reached(world: World, config: EffectsConfig) -> None:
    assigned = assign_text(world.cache, decode, WordEncoder(), config)
    calm = world.latents.assign(verdict="unchanged", turned=False)
    assert null_affected_share(DenseCrosscoder(world), world.cache, calm, assigned, config) == (2, 0, 0.0)


def test_categories_with_too_little_text_do_not_count(world: World, config: EffectsConfig) -> None:
    assigned = assign_text(world.cache, decode, WordEncoder(), config)
    few = EffectsConfig(taxonomy=config.taxonomy, window=8, min_documents=1000.0)
    found = null_affected_share(DenseCrosscoder(world), world.cache, world.latents, assigned, few)
    assert found.n_categories == 0 and np.isnan(found.affected_share)
