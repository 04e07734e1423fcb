"""Entries grouped by a small integer in one linear pass, where a sort would take n log n."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def group_entries(group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """(n,) group of each entry -> the permutation that sorts by it, in order within a group, and where each begins."""
    starts = np.zeros(n_groups + 1, np.int64)
    for i in range(len(group)):
        starts[group[i] + 1] += 1
    for g in range(n_groups):
        starts[g + 1] += starts[g]
    at = starts[:-1].copy()
    order = np.empty(len(group), np.int64)
    for i in range(len(group)):
        order[at[group[i]]] = i
        at[group[i]] += 1
    return order, starts
