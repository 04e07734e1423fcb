"""Findings matched with those of another dictionary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from findings.findings_world import make_world, write_codes

from mneme.effects.explained import Directions
from mneme.findings.seeds import cosines, displaced, found_again, main_directions


def test_a_finding_of_other_latents_is_found_and_another_is_not(tmp_path: Path) -> None:
    """The other dictionary splits one group's latents in two halves each, and lacks another group."""
    world = make_world(tmp_path, seed=3)
    planted, moved = world.planted, world.moved
    groups = {
        f"f-{g}": [int(moved.latent[i]) for i, s in enumerate(planted.groups) if s == (g,)] for g in (2, 4)
    }
    table = planted.codes.toarray().astype(np.float32)
    kept = np.array([i for i, s in enumerate(planted.groups) if s == (2,)])
    halves = np.concatenate([table[:, kept] / 2, table[:, kept] / 2], axis=1)
    vectors = np.concatenate([planted.vectors[kept]] * 2)
    other = write_codes(tmp_path / "other", halves, np.arange(len(vectors)), len(vectors))
    again = found_again(
        world.cache, groups, world.codes, moved, other, Directions(np.arange(len(vectors)), vectors)
    )
    assert again == {"f-2": True, "f-4": False}
    nothing = Directions(np.zeros(0, dtype=np.int64), np.zeros((0, 24)))
    assert found_again(world.cache, groups, world.codes, moved, other, nothing) == {
        "f-2": False,
        "f-4": False,
    }
    assert found_again(world.cache, {}, world.codes, moved, other, nothing) == {}


def test_what_is_compared_is_that_of_the_fields(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=1)
    sets = [np.array([0, 3, 4]), np.array([2])]
    table = world.planted.codes.toarray().astype(np.float32).astype(np.float64)
    fields = [table[:, s] @ world.moved.vector[s] for s in sets]
    lengths = np.stack([np.linalg.norm(field, axis=1) for field in fields], axis=1)
    found = displaced(world.codes, world.moved, sets)
    assert found.toarray() == pytest.approx(lengths, rel=1e-5)
    expected = lengths.T @ lengths / np.outer(*[np.linalg.norm(lengths, axis=0)] * 2)
    assert cosines(found, found) == pytest.approx(expected, rel=1e-5)
    for field, main in zip(fields, main_directions(world.codes, world.moved, sets), strict=True):
        assert abs(main @ np.linalg.svd(field, full_matrices=False)[2][0]) == pytest.approx(1, rel=1e-5)
