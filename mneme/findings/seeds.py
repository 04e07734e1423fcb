"""Is a finding found again by a dictionary of another seed? Its own findings are grouped alike, and matched.

A finding is found again where one of the other's findings has a main direction of cosine MATCH or more with its own,
and displacements at the same tokens: cosine MATCH or more of the two lengths |D'_S| over tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from mneme.crosscoder.codes import CodeCache
from mneme.effects.explained import Directions
from mneme.findings.choose import choose
from mneme.findings.sums import changed_codes, co_firing, spectrum_of, sum_changes
from mneme.harvest.protocols import Activations

MATCH = 0.7
"""Cosine of directions and of displacements from which two findings are the same."""


def found_again(
    cache: Activations,
    homes: Mapping[str, Sequence[int]],
    codes: CodeCache,
    moved: Directions,
    other: CodeCache,
    other_moved: Directions,
) -> dict[str, bool]:
    """Whether each finding is found again by the other dictionary.

    homes: finding -> its latents, all of them in `moved`. codes, moved: of the run; other, other_moved: of the other
    dictionary, on the same tokens.
    """
    if not homes:
        return {}
    place = {int(j): i for i, j in enumerate(moved.latent)}
    mine = [np.array([place[int(j)] for j in latents]) for latents in homes.values()]
    theirs = [
        each.members
        for each in choose(sum_changes(cache, other, other_moved), other_moved.vector)
        if each.parent is None
    ]
    if not theirs:
        return dict.fromkeys(homes, False)
    direction = np.abs(main_directions(codes, moved, mine) @ main_directions(other, other_moved, theirs).T)
    firing = cosines(displaced(codes, moved, mine), displaced(other, other_moved, theirs))
    same = ((direction >= MATCH) & (firing >= MATCH)).any(1)
    return {finding: bool(found) for finding, found in zip(homes, same, strict=True)}


def main_directions(codes: CodeCache, moved: Directions, sets: Sequence[np.ndarray]) -> np.ndarray:
    """(S, d) unit main direction of each set's predicted change. sets: places in `moved`."""
    firing = co_firing(codes, moved.latent)
    return np.stack([spectrum_of(firing[np.ix_(s, s)], moved.vector[s])[1][0] for s in sets])


def displaced(codes: CodeCache, moved: Directions, sets: Sequence[np.ndarray]) -> sparse.csr_array:
    """(N, S): |D'_S| of each set at each token."""
    parts = []
    for _, table in changed_codes(codes, moved.latent):
        lengths = np.zeros((table.shape[0], len(sets)))
        for s, members in enumerate(sets):
            mine = table[:, members]
            rows = np.flatnonzero(np.diff(mine.indptr))
            lengths[rows, s] = np.linalg.norm(mine[rows] @ moved.vector[members], axis=1)
        parts.append(sparse.csr_array(lengths))
    return sparse.csr_array(sparse.vstack(parts)) if parts else sparse.csr_array((0, len(sets)))


def cosines(one: sparse.csr_array, other: sparse.csr_array) -> np.ndarray:
    """(S, H) cosines of columns; 0 with an empty one."""
    inner = (one.T @ other).toarray()
    length = np.sqrt(np.outer(one.power(2).sum(0), other.power(2).sum(0)))
    found: np.ndarray = np.divide(inner, length, out=np.zeros(inner.shape), where=length > 0)
    return found
