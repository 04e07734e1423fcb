"""How windows are laid into batches, against every way to cut them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mneme.corpus.windows import Window
from mneme.harvest.plan import PASS_TOKENS, batches_of_like_length


def cost(batches: list[list[Window]], has_bos: bool) -> int:
    """Padded tokens, and what every pass costs beside."""
    return sum(len(b) * (max(w.length for w in b) + has_bos) + PASS_TOKENS for b in batches)


def cheapest(lengths: list[int], size: int, has_bos: bool) -> int:
    """The least cost over all cuts of the windows, longest first, into batches that fit."""
    order = sorted((length + has_bos for length in lengths), reverse=True)
    best = None
    for cuts in itertools.product([False, True], repeat=len(order) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(order)]
        runs = [order[a:b] for a, b in itertools.pairwise(bounds)]
        if all(len(run) == 1 or len(run) * run[0] <= size for run in runs):
            total = sum(len(run) * run[0] + PASS_TOKENS for run in runs)
            best = total if best is None else min(best, total)
    assert best is not None
    return best


@pytest.mark.parametrize("has_bos", [False, True])
@pytest.mark.parametrize("size", [1, 300, 1000])
def test_no_other_cut_costs_less(size: int, has_bos: bool) -> None:
    rng = np.random.default_rng(size)
    for _ in range(8):
        lengths = rng.integers(1, 257, size=9).tolist()
        group = [Window(document, 0, length) for document, length in enumerate(lengths)]
        batches = batches_of_like_length(group, size, has_bos)
        assert sorted(itertools.chain(*batches)) == sorted(group)
        for batch in batches:
            assert batch[0].length == max(window.length for window in batch)
            assert len(batch) == 1 or len(batch) * (batch[0].length + has_bos) <= size
        assert cost(batches, has_bos) == cheapest(lengths, size, has_bos)


def test_nothing_makes_no_batch() -> None:
    assert batches_of_like_length([], 100, True) == []
