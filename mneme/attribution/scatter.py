"""Adding to the rows of a table in a loop: numpy's `add.at` on tables is several times slower."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def add_rows(table: np.ndarray, index: np.ndarray, rows: np.ndarray) -> None:  # pragma: no cover - compiled
    """table[index[u]] += rows[u], for table (F, c) and rows (U, c); an index may occur many times."""
    for u in range(len(index)):
        for c in range(table.shape[1]):
            table[index[u], c] += rows[u, c]
