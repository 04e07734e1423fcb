"""How two dictionaries' predicted changes agree: against plain sums over tokens, and on planted changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mneme.crosscoder import codes as codes_module
from mneme.crosscoder.codes import CodeCache, SparseCodes
from mneme.effects.change_agreement import change_agreement
from mneme.effects.explained import Directions

TOKENS, WIDTH = 90, 12


def kept(folder: Path, dense: np.ndarray, size: int = 30) -> CodeCache:
    """A CodeCache of (N, F) activations, written in batches of `size` tokens."""
    cache = CodeCache(folder)
    cache.start()
    for part in np.array_split(dense, range(size, len(dense), size)):
        row, latent = np.nonzero(part)
        value = torch.from_numpy(part[row, latent]).float()
        cache.write(SparseCodes(torch.from_numpy(row), torch.from_numpy(latent), value), len(part))
    cache.finish(dense.shape[1])
    return CodeCache(folder)


def activations(rng: np.random.Generator, latents: int, share: float = 0.3) -> np.ndarray:
    found: np.ndarray = (
        rng.gamma(2, 1, (TOKENS, latents)) * (rng.uniform(size=(TOKENS, latents)) < share)
    ).astype(np.float32)
    return found


def test_it_is_that_of_plain_sums_whatever_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    one, other = activations(rng, 9), activations(rng, 7)
    mine = Directions(np.array([1, 4, 8]), rng.normal(size=(3, WIDTH)))
    theirs = Directions(np.array([0, 2, 3, 6]), rng.normal(size=(4, WIDTH)))
    left = kept(tmp_path / "one", one)
    monkeypatch.setattr(codes_module, "SHARD_ENTRIES", 40)
    right = kept(tmp_path / "other", other, 7)
    assert len(list(right.shards())) > 3
    found = change_agreement(left, mine, right, theirs)

    changes = [one[:, mine.latent] @ mine.vector, other[:, theirs.latent] @ theirs.vector]
    expected = 1 - np.square(changes[0] - changes[1]).sum() / np.square(changes[0]).sum()
    axes = [np.linalg.svd(change, full_matrices=False) for change in changes]
    held = np.cumsum(axes[0].S ** 2) / np.sum(axes[0].S ** 2)
    r = int(np.flatnonzero(held >= 0.9)[0]) + 1
    overlap = np.square(axes[0].Vh[:r] @ axes[1].Vh[:r].T).sum() / r
    assert (found.r2, found.overlap, found.n_directions) == pytest.approx((expected, overlap, r), rel=1e-5)


def test_latents_that_are_split_tell_of_the_same_change(tmp_path: Path) -> None:
    """The other dictionary has two half-size latents where the one has one: none matches, the change is the same."""
    rng = np.random.default_rng(1)
    dense, vector = activations(rng, 2), rng.normal(size=(2, WIDTH))
    codes = kept(tmp_path / "one", dense)
    halves = kept(tmp_path / "other", np.repeat(dense, 2, axis=1))
    aside = rng.normal(size=vector.shape)
    split = np.repeat(vector / 2, 2, axis=0) + np.stack([aside, -aside], 1).reshape(4, WIDTH)
    found = change_agreement(codes, Directions(np.arange(2), vector), halves, Directions(np.arange(4), split))
    assert found.r2 == pytest.approx(1) and found.overlap == pytest.approx(1)


def test_other_directions_and_other_tokens_do_not_agree(tmp_path: Path) -> None:
    dense = np.zeros((TOKENS, 1), np.float32)
    dense[::2] = 1
    codes, elsewhere = kept(tmp_path / "one", dense), kept(tmp_path / "other", 1 - dense)
    along, aside = (Directions(np.array([0]), np.eye(WIDTH)[[axis]]) for axis in (0, 1))
    turned = change_agreement(codes, along, codes, aside)
    assert (turned.overlap, turned.r2) == (0, -1)
    moved = change_agreement(codes, along, elsewhere, along)
    assert moved.overlap == pytest.approx(1) and moved.r2 == pytest.approx(-1)  # the direction alone is found


def test_no_change_is_not_known_and_a_missed_one_is_nothing(tmp_path: Path) -> None:
    codes = kept(tmp_path / "one", activations(np.random.default_rng(2), 3))
    nothing = Directions(np.zeros(0, int), np.zeros((0, WIDTH)))
    something = Directions(np.array([1]), np.ones((1, WIDTH)))
    assert np.isnan(change_agreement(codes, nothing, codes, something)[:2]).all()
    assert change_agreement(codes, something, codes, nothing) == (0, 0, 1)
