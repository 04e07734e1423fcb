"""The best n entries of each latent, as entries stream by: compiled loops over entries grouped by latent.

A counting sort groups them, a quickselect finds each latent's n-th largest key: the work is linear in the entries,
where sorting all of them by latent and key takes most of the time that choosing contexts takes.
"""

from __future__ import annotations

import numba
import numpy as np

from mneme._util.grouping import group_entries

_PENDING = 2**21  # entries gathered before they are merged


@numba.njit(nogil=True, cache=True)
def sort_groups(starts: np.ndarray, value: np.ndarray) -> np.ndarray:  # pragma: no cover
    """The permutation that sorts each group's values (>= 0), equal ones kept in order."""
    order = np.empty(len(value), np.int64)
    for g in range(len(starts) - 1):
        a, b = starts[g], starts[g + 1]
        # positive floats sort like their bits
        key = (value[a:b].astype(np.float32).view(np.uint32).astype(np.int64) << 32) | np.arange(b - a)
        key.sort()
        for i in range(b - a):
            order[a + i] = a + (key[i] & 0xFFFFFFFF)
    return order


@numba.njit(nogil=True, cache=True)
def _keep_best(
    order: np.ndarray,
    starts: np.ndarray,
    key: np.ndarray,
    unit: np.ndarray,
    one_per_unit: bool,
    n: int,
    floor: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """Which of the grouped entries are kept, in order, and where each latent's begin; raises `floor` (F,)."""
    kept = np.empty(len(order), np.int64)
    begins = np.zeros(len(starts), np.int64)
    m = 0
    for g in range(len(starts) - 1):
        first = m
        i = starts[g]
        while i < starts[g + 1]:
            best = order[i]
            i += 1
            if one_per_unit:
                while i < starts[g + 1] and unit[order[i]] == unit[best]:
                    if key[order[i]] > key[best]:
                        best = order[i]
                    i += 1
            kept[m] = best
            m += 1
        size = m - first
        if size >= n:
            keys = key[kept[first:m]]
            cut = np.partition(keys, size - n)[size - n]
            equal = n - np.sum(keys > cut)  # of those at the edge the first are kept
            m = first
            for i in range(first, first + size):
                if key[kept[i]] == cut:
                    if equal == 0:
                        continue
                    equal -= 1
                elif key[kept[i]] < cut:
                    continue
                kept[m] = kept[i]
                m += 1
            floor[g] = cut
        begins[g + 1] = m
    return kept[:m], begins


class Best:
    """The n entries with the largest key (uint32) of each latent; of equal ones, those of the first rows.

    `unit` (N,): what each row belongs to, rows of one unit following each other; given, each unit has one entry of a
    latent at most, its largest. Entries are offered with rows ascending.
    """

    def __init__(self, n_latents: int, n: int, unit: np.ndarray | None = None) -> None:
        self.n_latents, self.n, self.unit = n_latents, n, unit
        self.floor = np.full(n_latents, -1, dtype=np.int64)  # a key up to it can't be among the n any more
        none = np.zeros(0, dtype=np.int64)
        self._parts = [(none, none, np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.uint32))]
        self._pending = 0

    def offer(self, latent: np.ndarray, row: np.ndarray, value: np.ndarray, key: np.ndarray) -> None:
        """Entries (n,) of rows after those offered before."""
        chosen = np.flatnonzero(key > self.floor[latent])
        self._parts.append((latent[chosen], row[chosen], value[chosen], key[chosen]))
        self._pending += len(chosen)
        if self._pending > _PENDING:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """latent, row, value of all that are kept, latents and each one's rows ascending; where each latent begins."""
        begins = self._merge()
        latent, row, value, _ = self._parts[0]
        return latent, row, value, begins

    def _merge(self) -> np.ndarray:
        latent, row, value, key = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        unit = row if self.unit is None else self.unit[row]
        order, starts = group_entries(latent, self.n_latents)
        kept, begins = _keep_best(order, starts, key, unit, self.unit is not None, self.n, self.floor)
        self._parts = [(latent[kept], row[kept], value[kept], key[kept])]
        self._pending = 0
        return begins
