"""Some documents of a source: as named, and drawn with replacement."""

import numpy as np
import torch

from mneme.attribution.held_activations import MemoryCache
from mneme.harvest.chosen_documents import ChosenDocuments, resampled

LENGTHS = np.array([3, 5, 1, 8, 4, 6, 2, 7])


def source():
    document = np.repeat(np.arange(8) * 2, LENGTHS)  # odd documents have no rows
    rows = torch.arange(len(document), dtype=torch.float32)
    return MemoryCache(rows[:, None, None].expand(-1, 2, 3).contiguous(), document)


def rows_of(batches):
    return torch.cat(list(batches))[:, 0, 0].long().numpy()


def test_it_reads_whole_documents_as_many_as_there_are():
    cache = source()
    drawn = resampled(cache, 1)
    expected = np.concatenate([np.flatnonzero(cache.document == d) for d in drawn.documents])
    assert len(drawn.documents) == 8 and drawn.n == len(expected)
    assert len(np.unique(drawn.documents)) < 8
    for size in (1, 4, 100):
        assert (rows_of(drawn.batches(size)) == expected).all()
    assert (drawn.read(2, 11)[:, 1, 2].numpy() == expected[2:11]).all()


def test_shuffled_it_has_the_same_rows():
    drawn = resampled(source(), 1)
    whole, again = (rows_of(drawn.batches(4, shuffle=True, seed=3)) for _ in range(2))
    assert (whole == again).all()
    assert (np.sort(whole) == np.sort(rows_of(drawn.batches(4)))).all()
    assert (whole != rows_of(drawn.batches(4, shuffle=True, seed=4))).any()


def test_shares_make_the_batches():
    drawn = resampled(source(), 1)
    for shuffle in (False, True):
        whole = list(drawn.batches(6, shuffle=shuffle, seed=2))
        parts = [drawn.batches(6, shuffle=shuffle, seed=2, part=(r, 2)) for r in (0, 1)]
        for batch, *halves in zip(whole, *parts, strict=True):
            assert torch.equal(torch.cat(halves), batch)


def test_each_seed_draws_others():
    cache = source()
    one, same, other = (resampled(cache, seed).documents for seed in (1, 1, 2))
    assert (one == same).all() and (one != other).any()


def test_documents_come_as_they_are_named():
    cache = source()
    named = ChosenDocuments(cache, np.array([6, 2, 6]))
    expected = np.concatenate([np.flatnonzero(cache.document == d) for d in (6, 2, 6)])
    assert (rows_of(named.batches(5)) == expected).all() and named.n == 21
    assert ChosenDocuments(cache, np.array([], int)).n == 0
