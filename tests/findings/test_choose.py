"""Which sets are told."""

from __future__ import annotations

import numpy as np
import pytest

from mneme.effects.explained import Directions
from mneme.findings.choose import choose, most_moving
from mneme.findings.grouping import gram
from mneme.findings.sums import ChangeSums


def sums_of(codes: np.ndarray, vectors: np.ndarray) -> ChangeSums:
    """Of a pair that differs by exactly what its latents say."""
    co_firing = codes.T @ codes
    products = gram(co_firing, vectors)
    moved = Directions(np.arange(len(vectors)) + 10, vectors)
    return ChangeSums(moved, co_firing, products.sum(1), float(products.sum()), 1.0, products)


def test_no_changed_latent_gives_no_finding() -> None:
    assert choose(sums_of(np.zeros((5, 0)), np.zeros((0, 3))), np.zeros((0, 2, 3))) == []


def test_one_changed_latent_is_one_finding_of_one_latent() -> None:
    (only,) = choose(sums_of(np.ones((5, 1)), np.ones((1, 3))), np.ones((1, 2, 3)))
    assert only.members.tolist() == [0] and only.also.tolist() == [] and only.parent is None


def test_a_latent_that_never_fires_is_still_one_finding() -> None:
    (only,) = choose(sums_of(np.zeros((5, 1)), np.ones((1, 3))), np.ones((1, 2, 3)))
    assert only.members.tolist() == [0]


def blob(rng: np.random.Generator) -> ChangeSums:
    """One direction, pushed by six latents that fire in two crowds which meet sometimes; and one latent elsewhere."""
    crowds = rng.random((400, 2)) < [0.3, 0.2]
    codes = np.zeros((400, 7))
    for j in range(6):
        codes[:, j] = crowds[:, j // 3] & (rng.random(400) < 0.9)
    codes[:, 6] = rng.random(400) < 0.1
    vectors = np.tile([1.0, 0, 0], (7, 1)) + rng.normal(scale=0.05, size=(7, 3))
    vectors[6] = [0, 1, 0]
    return sums_of(codes, vectors)


def test_a_finding_of_most_changed_latents_is_split_by_firing() -> None:
    found = choose(blob(np.random.default_rng(0)), np.arange(7)[:, None])
    assert [sorted(each.members.tolist()) for each in found] == [
        [0, 1, 2, 3, 4, 5], [0, 1, 2], [3, 4, 5], [6],
    ]  # fmt: skip
    assert [each.parent for each in found] == [None, found[0].finding, found[0].finding, None]


def test_ids_come_from_the_latents_and_the_dictionary() -> None:
    sums = blob(np.random.default_rng(0))
    ids = [each.finding for each in choose(sums, np.arange(7)[:, None])]
    assert ids == [each.finding for each in choose(blob(np.random.default_rng(0)), np.arange(7)[:, None])]
    other = [each.finding for each in choose(sums, np.arange(7)[:, None] + 1)]
    assert len({*ids, *other}) == 8


def test_the_latents_that_move_least_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mneme.findings.choose.LARGEST", 2)
    moved = Directions(np.array([1, 3, 4]), np.array([[1.0, 0], [3, 0], [0, 2]]))
    kept = most_moving(moved, np.array([0, 9.0, 0, 2, 2]))
    assert kept.latent.tolist() == [1, 3] and kept.vector.tolist() == [[1, 0], [3, 0]]
