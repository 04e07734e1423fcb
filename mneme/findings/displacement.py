"""How far each finding moves each token, and how much of that the token really moved; one pass over activations.

A finding's displacement at a token is |D'_S|, the length of its members' predicted change there; what is confirmed of
it is as in mneme/effects/explained.py: how far the token did move that way, at most as far as predicted. As codes of
as many made-up latents, displacements give findings contexts and names by the way latents get theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache
from mneme.effects.explained import Directions, hold
from mneme.findings.sums import changed_codes
from mneme.harvest.protocols import Activations


class Displacement(NamedTuple):
    """Of one finding, at the M tokens where it moves something, in token order."""

    row: np.ndarray
    """(M,) int64."""
    length: np.ndarray
    """(M,) float32, raw units, above 0."""
    confirmed: np.ndarray
    """(M,) float32, raw units."""


def displacements(
    cache: Activations,
    codes: CodeCache,
    moved: Directions,
    sets: Sequence[np.ndarray],
    progress: Progress = NULL_PROGRESS,
) -> list[Displacement]:
    """A Displacement for each set. sets: places of the members in `moved`."""
    parts: list[list[Displacement]] = [[] for _ in sets]
    with progress.task("findings: how far they move", cache.n, "tokens") as task:
        for first, table in changed_codes(codes, moved.latent):
            x = cache.read(first, first + table.shape[0])
            for members, found in zip(sets, parts, strict=True):
                mine = table[:, members]
                rows = np.flatnonzero(np.diff(mine.indptr))
                said = mine[rows] @ moved.vector[members]
                pair = x[rows].double().numpy()
                confirmed = hold(pair[:, 1] - pair[:, 0], said).confirmed
                length = np.linalg.norm(said, axis=1)
                kept = length > 0
                found.append(
                    Displacement(
                        first + rows[kept],
                        length[kept].astype(np.float32),
                        confirmed[kept].astype(np.float32),
                    )
                )
            task.advance(len(x))
    empty = Displacement(np.zeros(0, np.int64), *(np.zeros(0, np.float32) for _ in range(2)))
    return [
        Displacement(*(np.concatenate(column) for column in zip(empty, *found, strict=True)))
        for found in parts
    ]


class DisplacementCodes:
    """Findings as if they were latents, the displacement their activation: what `find_contexts` reads."""

    def __init__(self, found: Sequence[Displacement], n_tokens: int) -> None:
        self.found, self.n_tokens = found, n_tokens

    def shards(self) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray], int]]:
        """One shard of all tokens: (row, finding, displacement), sorted by row, then finding."""
        row = np.concatenate([each.row for each in self.found])
        value = np.concatenate([each.length for each in self.found])
        which = np.repeat(np.arange(len(self.found)), [len(each.row) for each in self.found])
        order = np.lexsort((which, row))
        yield 0, (row[order], which[order], value[order]), self.n_tokens
