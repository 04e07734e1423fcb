"""Choose a few firings from each decile of a latent's sample, preferring documents not used for another context.

True deciles, by rank among the latent's firings. Which of a tenth are shown is drawn by a hash.
"""

from __future__ import annotations

import numba
import numpy as np

from mneme.interpret.config import InterpretConfig
from mneme.interpret.selection import Firings, uniform_hash

_REPEATED = 1 << 31  # added to the hash of a firing whose document gives another context already


def decile_firings(
    sample: Firings, top: Firings, unit: np.ndarray, n_latents: int, config: InterpretConfig
) -> tuple[Firings, np.ndarray]:
    """Some of the sample, each latent's weakest first, and their tenth, 1..10. `top`: the strongest of each latent.

    `unit` (N,): the document of each row, or a piece of it.
    """
    turn = (uniform_hash(config.seed + 2, sample.latent, sample.row) * 2**31).astype(np.int64)
    begins, top_begins = (np.searchsorted(f.latent, np.arange(n_latents + 1)) for f in (sample, top))
    n_units = int(unit.max(initial=0)) + 1
    keep, quantile = _draw(
        begins, unit[sample.row], turn, top_begins, unit[top.row], n_units, config.decile_contexts
    )
    # The very token of a top context is not shown again.
    rows = int(sample.row.max(initial=0)) + 1
    new = ~np.isin(sample.latent[keep] * rows + sample.row[keep], top.latent * rows + top.row)
    keep, quantile = keep[new], quantile[new]
    return Firings(*(column[keep] for column in sample)), quantile


@numba.njit(nogil=True, cache=True)
def _draw(
    begins: np.ndarray,
    unit: np.ndarray,
    turn: np.ndarray,
    top_begins: np.ndarray,
    top_unit: np.ndarray,
    n_units: int,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:  # pragma: no cover
    """Indices into the sample and their tenths: of each tenth the `most` firings of the smallest turns."""
    kept = np.empty(10 * most * (len(begins) - 1), np.int64)
    quantile = np.empty(len(kept), np.int64)
    first = np.full(n_units, -1, np.int64)  # of a latent: the firing that stands for a document
    best_turn = np.empty(most, np.int64)
    m = 0
    for j in range(len(begins) - 1):
        a, b = begins[j], begins[j + 1]
        for i in range(a, b):
            other = first[unit[i]]
            if other < 0 or turn[i] < turn[other]:
                first[unit[i]] = i
        for i in range(top_begins[j], top_begins[j + 1]):
            first[top_unit[i]] = -1
        held = 0
        for i in range(a, b):
            tenth = (i - a) * 10 // (b - a) + 1
            if i == a or tenth != (i - 1 - a) * 10 // (b - a) + 1:
                m += held
                held = 0
            key = turn[i] if first[unit[i]] == i else turn[i] + _REPEATED
            if held == most:
                if most == 0 or key >= best_turn[most - 1]:
                    continue
                held -= 1
            at = held
            while at > 0 and best_turn[at - 1] > key:
                best_turn[at], kept[m + at] = best_turn[at - 1], kept[m + at - 1]
                at -= 1
            best_turn[at], kept[m + at] = key, i
            quantile[m + held] = tenth
            held += 1
        m += held
        for i in range(a, b):
            first[unit[i]] = -1
    return kept[:m], quantile[:m]
