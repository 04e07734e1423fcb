"""Sums over tokens against the difference between the models written out."""

from __future__ import annotations

import numpy as np
import pytest
from findings.findings_world import World, make_world

from mneme.effects.explained import Directions
from mneme.findings.displacement import DisplacementCodes, displacements
from mneme.findings.measures import behaviour, profile
from mneme.findings.sums import explained_alone, explained_parts, spectrum, sum_changes


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("findings"))


def predicted(world: World, members: np.ndarray) -> np.ndarray:
    """(N, d): D'_S."""
    table = world.planted.codes.toarray().astype(np.float32).astype(np.float64)
    return table[:, members] @ world.moved.vector[members]


def test_shares_are_those_of_the_squared_difference(world: World) -> None:
    sums = sum_changes(world.cache, world.codes, world.moved)
    D = world.cache.activations[:, 1].numpy() - world.cache.activations[:, 0].numpy()
    K = len(world.moved.latent)
    for members in (np.arange(3), np.array([1]), np.arange(K)):
        left = np.square(D - predicted(world, members)).sum()
        assert explained_alone(sums, members) == pytest.approx(1 - left / np.square(D).sum())
    assert explained_parts(sums).sum() == pytest.approx(explained_alone(sums, np.arange(K)))
    base = world.cache.activations[:, 0].numpy()
    assert sums.typical == pytest.approx(np.sqrt(np.square(base - base.mean(0)).sum(1).mean()))


def test_parts_are_shapley_values(world: World) -> None:
    """Of three players: the mean over all orders of what each adds to those before it."""
    from itertools import permutations

    moved = Directions(world.moved.latent[:3], world.moved.vector[:3])
    sums = sum_changes(world.cache, world.codes, moved)
    value = np.zeros(3)
    for order in permutations(range(3)):
        for place, j in enumerate(order):
            before = np.array(order[:place], dtype=int)
            value[j] += explained_alone(sums, np.r_[before, j]) - explained_alone(sums, before)
    assert explained_parts(sums) == pytest.approx(value / 6)


def test_principal_directions_are_those_of_the_predicted_change(world: World) -> None:
    sums = sum_changes(world.cache, world.codes, world.moved)
    members = np.array([0, 2, 5, 6])
    shares, directions = spectrum(sums, members)
    said = predicted(world, members)
    _, lengths, rows = np.linalg.svd(said, full_matrices=False)
    assert shares == pytest.approx((np.square(lengths) / np.square(lengths).sum())[:4])
    assert np.abs((directions * rows[:4]).sum(1)) == pytest.approx(1)


def test_displacements_and_what_is_confirmed_of_them(world: World) -> None:
    sets = [np.array([0, 2, 5]), np.array([4])]
    found = displacements(world.cache, world.codes, world.moved, sets)
    D = world.cache.activations[:, 1].numpy() - world.cache.activations[:, 0].numpy()
    for members, each in zip(sets, found, strict=True):
        said = predicted(world, members)
        length = np.linalg.norm(said, axis=1)
        assert each.row.tolist() == np.flatnonzero(length).tolist()
        assert each.length == pytest.approx(length[length > 0], rel=1e-5)
        along = (D * said).sum(1)[each.row] / length[each.row]
        assert each.confirmed == pytest.approx(np.clip(along, 0, length[each.row]), rel=1e-4, abs=1e-5)
    (first, (row, which, value), n), *rest = DisplacementCodes(found, world.cache.n).shards()
    assert (first, n, rest) == (0, world.cache.n, [])
    table = np.zeros((n, 2))
    table[row, which] = value
    assert np.flatnonzero(table[:, 1]).tolist() == found[1].row.tolist()
    assert (np.diff(row * 2 + which) > 0).all()


def test_behaviour_is_weighted_by_displacement_over_measured_tokens(world: World) -> None:
    (each,) = displacements(world.cache, world.codes, world.moved, [np.arange(6)])
    told = behaviour(each, world.cache)
    change = world.cache.nll_tuned - world.cache.nll_base
    rows = [i for i, r in enumerate(each.row) if np.isfinite(change[r])]
    top = sum(float(each.length[i]) * float(change[each.row[i]]) for i in rows)
    assert told["nll_change"] == pytest.approx(top / sum(float(each.length[i]) for i in rows), rel=1e-5)
    assert told["nll_low"] < told["nll_change"] < told["nll_high"]


def test_nothing_measured_is_not_known(world: World) -> None:
    (each,) = displacements(world.cache, world.codes, world.moved, [np.arange(6)])
    silent = type("Rows", (), {"document": world.cache.document})()
    silent.kl = silent.nll_base = silent.nll_tuned = np.full(world.cache.n, np.nan)
    assert all(np.isnan(value) for value in behaviour(each, silent).values())


def test_profile_is_the_mean_displacement_of_documents(world: World) -> None:
    (each,) = displacements(world.cache, world.codes, world.moved, [np.arange(6)])
    found = profile(each, world.cache, 2.0)
    means = [
        np.where(world.cache.document[each.row] == d, each.length, 0).sum()
        / (world.cache.document == d).sum()
        for d in range(30)
    ]
    assert len(found) == 24 and found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(np.mean(sorted(means)[-2:]) / 2, rel=1e-5)
