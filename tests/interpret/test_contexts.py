from __future__ import annotations

import numpy as np
import pytest

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts, contexts_table, find_contexts, is_test
from mneme.interpret.selection import select_firings, uniform_hash

from .fakes import FakeCache, FakeCodes, random_cache, random_codes

F = 12


class Letters:
    """Ids as text."""

    def texts(self, ids) -> list[str]:
        return [f" t{i}" for i in ids]


@pytest.fixture(scope="module")
def cache() -> FakeCache:
    return random_cache(n_documents=300, longest=40)


@pytest.fixture(scope="module")
def codes(cache: FakeCache) -> FakeCodes:
    return random_codes(cache.n, F, density=0.05)


@pytest.fixture(scope="module")
def config() -> InterpretConfig:
    return InterpretConfig(top_contexts=5, decile_contexts=3, window=16)


@pytest.fixture(scope="module")
def found(codes: FakeCodes, cache: FakeCache, config: InterpretConfig) -> Contexts:
    return find_contexts(codes, cache, F, config)


def test_top_contexts_are_the_strongest_one_a_document(found, codes, cache) -> None:
    for latent in range(F):
        column = codes.dense[:, latent]
        best = {}
        for row in np.argsort(-column, kind="stable"):
            if column[row] > 0:
                best.setdefault(cache.document[row], row)
        mine = (found.latent == latent) & (found.quantile == 0)
        assert found.row[mine].tolist() == list(best.values())[:5]
        assert found.rank[mine].tolist() == list(range(mine.sum()))


def test_deciles_are_by_rank(found, codes) -> None:
    for latent in range(F - 1):
        values = np.sort(codes.dense[:, latent][codes.dense[:, latent] > 0])
        for q in range(1, 11):
            mine = found.row[(found.latent == latent) & (found.quantile == q)]
            assert 1 <= len(mine) <= 3
            rank = np.searchsorted(values, codes.dense[mine, latent])
            assert (rank * 10 // len(values) + 1 == q).all()


def test_deciles_show_no_document_of_the_top_while_others_are_there(found, cache) -> None:
    pair = found.latent * 1000 + found.document
    assert len(np.unique(pair)) / len(pair) > 0.85
    assert len(np.unique(found.latent * 10**6 + found.row)) == len(pair)


def test_windows_hold_the_document_and_the_latents_activations(found, codes, cache) -> None:
    value_at = {
        (d, p): codes.dense[row]
        for row, (d, p) in enumerate(zip(cache.document, cache.position, strict=True))
    }
    for i in range(len(found.latent)):
        document, start, length = int(found.document[i]), int(found.start[i]), int(found.length[i])
        text = cache.texts[document]
        assert found.tokens[i, :length].tolist() == text[start : start + length]
        assert (found.tokens[i, length:] == -1).all() and length == min(16, len(text))
        assert start <= found.position[i] < start + length
        expected = [
            value_at[document, p][found.latent[i]] if (document, p) in value_at else 0.0
            for p in range(start, start + length)
        ]
        assert found.activations[i, :length].tolist() == expected
        assert expected[found.position[i] - start] == codes.dense[found.row[i], found.latent[i]] > 0


def test_the_cut_into_shards_changes_nothing(codes, cache, config, found) -> None:
    again = find_contexts(FakeCodes(codes.dense, shard=777), cache, F, config)
    for one, other in zip(found, again, strict=True):
        assert np.array_equal(one, other)


def test_a_sample_smaller_than_the_firings_is_uniform(monkeypatch) -> None:
    monkeypatch.setattr("mneme.interpret.selection.MAX_SAMPLE", 200)
    codes = FakeCodes(np.arange(1, 4001, dtype=np.float32)[:, None], shard=300)
    chosen = select_firings(codes, np.arange(4000), 1, top=3, seed=0)
    assert chosen.top.value.tolist() == [4000, 3999, 3998] and chosen.n_active.tolist() == [4000]
    assert len(chosen.sample.value) == 200 and (np.diff(chosen.sample.value) > 0).all()
    assert abs(chosen.sample.value.mean() - 2000) < 4 * 1155 / 200**0.5


def test_few_documents_still_give_several_top_contexts() -> None:
    cache = FakeCache([list(range(2000))])
    codes = random_codes(cache.n, 2, density=0.5)
    found = find_contexts(codes, cache, 2, InterpretConfig(top_contexts=5, decile_contexts=0))
    assert (found.latent == 0).sum() == 5 and found.length.max() == 48


def test_the_split_is_by_document_and_near_its_share(found, config) -> None:
    for document in np.unique(found.document):
        assert len(set(found.test[found.document == document])) == 1
    assert abs(is_test(np.arange(10_000), config).mean() - 0.4) < 0.02
    assert not np.array_equal(
        is_test(np.arange(100), config), is_test(np.arange(100), InterpretConfig(seed=9))
    )


def test_no_firings_give_an_empty_table_with_its_columns(cache, config) -> None:
    nothing = find_contexts(FakeCodes(np.zeros((cache.n, 3), np.float32)), cache, 3, config)
    table = contexts_table(nothing, cache, Letters())
    assert table.num_rows == 0 and table.column_names[0] == "latent"


def test_the_table_holds_null_where_nothing_was_measured(found, cache) -> None:
    table = contexts_table(found, cache, Letters())
    row = table.slice(0, 1).to_pylist()[0]
    assert row["split"] == ("test" if found.test[0] else "train") and row["start"] == found.start[0]
    assert row["tokens"] == [f" t{i}" for i in found.tokens[0, : found.length[0]]]
    for column, kl, change in zip(found.rows[0], row["kl"], row["nll_change"], strict=False):
        if column < 0:
            assert kl is None and change is None
        else:
            assert (kl is None) == bool(np.isnan(cache.kl[column]))
            assert change == pytest.approx(cache.nll_tuned[column] - cache.nll_base[column])


def test_hashes_are_uniform_and_independent_of_array_shape() -> None:
    values = uniform_hash(3, np.arange(50_000), np.zeros(50_000))
    assert values.min() >= 0 and values.max() < 1
    assert np.abs(np.histogram(values, 10, (0, 1))[0] / 5000 - 1).max() < 0.1
    assert uniform_hash(3, np.array([7]), np.array([0]))[0] == values[7]
