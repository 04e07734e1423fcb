"""Grouping against fields over tokens written out, and on planted groups."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from mneme.findings.grouping import belonging, gram, merged
from mneme.organisms.planted_groups import GroupsConfig, plant_groups


def by_fields(fields: np.ndarray, threshold: float, least: int = 1) -> list[set[int]]:
    """Merge sets of fields (K, N, d) whose sums have the largest correlation: every correlation anew at each step."""
    sets = [{j} for j in range(len(fields))]
    while len(sets) > least:
        sums = [fields[sorted(s)].sum(0).ravel() for s in sets]
        best = max(
            (
                (one @ other / (np.linalg.norm(one) * np.linalg.norm(other)), i, j)
                for i, one in enumerate(sums)
                for j, other in enumerate(sums)
                if i < j and one.any() and other.any()
            ),
            default=(-1.0, 0, 0),
        )
        if best[0] < threshold:
            break
        sets[best[1]] |= sets.pop(best[2])
    return sets


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("least", [1, 4])
def test_merged_sets_are_those_of_the_fields(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    f = np.abs(rng.normal(size=(40, 9))) * (rng.random((40, 9)) < 0.3)
    v = rng.normal(size=(9, 3))
    f[:, 4], v[5] = 0, 0  # one never fires, one says nothing
    found = merged(gram(f.T @ f, v), 0.2, least=least)
    sets = by_fields(f.T[:, :, None] * v[:, None], 0.2, least)
    assert sorted(map(sorted, sets)) == sorted(np.flatnonzero(found == s).tolist() for s in np.unique(found))
    assert np.unique(found, return_index=True)[1].tolist() == sorted(np.unique(found, return_index=True)[1])


def test_belonging_is_the_correlation_with_the_other_members() -> None:
    rng = np.random.default_rng(0)
    f, v = np.abs(rng.normal(size=(30, 6))), rng.normal(size=(6, 3))
    home = np.array([0, 0, 0, 1, 1, 2])
    found = belonging(gram(f.T @ f, v), home)
    fields = f.T[:, :, None] * v[:, None]
    for j in range(6):
        for s in range(3):
            others = [k for k in range(6) if home[k] == s and k != j]
            one, other = fields[j].ravel(), fields[others].sum(0).ravel()
            length = np.linalg.norm(one) * np.linalg.norm(other)
            assert found[j, s] == pytest.approx(one @ other / length if length else 0)


@pytest.mark.parametrize("n", [0, 1])
def test_few_latents_are_each_their_own(n: int) -> None:
    assert merged(np.ones((n, n))).tolist() == list(range(n))
    assert belonging(np.ones((n, n)), np.arange(n)).tolist() == [[0.0]] * n


@pytest.mark.parametrize("seed", range(2))
def test_planted_groups_are_recovered(seed: int) -> None:
    planted = plant_groups(GroupsConfig(seed=100 + seed, n_documents=100))
    co_firing = (planted.codes.T @ planted.codes).toarray()
    found = merged(gram(co_firing, planted.vectors))
    assert adjusted_rand_score(planted.home, found) >= 0.9
