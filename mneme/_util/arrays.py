"""Arithmetic on arrays that says NaN instead of warning."""

from __future__ import annotations

import numpy as np


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, of shapes that broadcast; NaN where b is 0."""
    found: np.ndarray = np.divide(
        a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b != 0
    )
    return found
