"""Evidence on a dictionary's latents is of documents that its training did not read."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mneme._util.vocabulary import SPARSE_ENOUGH
from mneme.attribution.health import attribution_health
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.reconstruction import reconstructions
from mneme.attribution.stream import attribute, evidence_documents
from mneme.crosscoder import Crosscoder, CrosscoderConfig, train_crosscoder
from mneme.harvest.held_out import (
    FEWEST,
    TrainingRows,
    choose_held_out,
    document_hashes,
    held_out_of,
)
from mneme.organisms.planted import PlantedConfig, PlantedPair, planted_cache

CONFIG = CrosscoderConfig(
    n_latents=96, k=4, batch_size=512, tokens=200_000, learning_rate=2e-3, dead_feature_threshold=50_000
)
PLANTED = PlantedConfig(width=32, n_features=48, rarest=0.005)


@pytest.fixture(scope="module")
def pair() -> PlantedPair:
    return PlantedPair(PLANTED)


@pytest.fixture(scope="module")
def cache(pair: PlantedPair) -> MemoryCache:
    return planted_cache(pair, 250, 1)


@pytest.fixture(scope="module")
def crosscoder(cache: MemoryCache) -> Crosscoder:
    return train_crosscoder(cache, CONFIG)


def test_the_choice_is_a_share_evenly_over_topics_and_copies_stay_together():
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 2**60, 1000)
    topics = ["a"] * 500 + ["b"] * 490 + ["rare"] * 10
    hashes[10:20] = hashes[0]
    hashes[999] = 0  # no row of it was kept
    held = choose_held_out(hashes, 0.3, topics)
    assert abs(held.mean() - 0.3) < 0.02 and not held[999]
    assert len(set(held[[0, *range(10, 20)]])) == 1
    for part in (slice(0, 500), slice(500, 990)):
        assert abs(held[part].mean() - 0.3) < 0.03
    assert 2 <= held[990:999].sum() <= 4
    # a function of the documents alone: in any order, the same ones
    order = rng.permutation(1000)
    again = choose_held_out(hashes[order], 0.3, [topics[i] for i in order])
    assert (again == held[order]).mean() > 0.98


def test_short_text_holds_nothing_out():
    hashes = np.arange(1, 60)
    assert not choose_held_out(hashes, 0.3).any()
    assert choose_held_out(np.arange(1, 1 + round(FEWEST / 0.3) + 1), 0.3).sum() >= FEWEST
    assert not choose_held_out(hashes, 0.0).any()


def test_a_document_is_known_by_what_it_says():
    x = torch.randn(60, 2, 4)
    cache = MemoryCache(x, np.repeat([0, 1, 3], 20))
    hashes = document_hashes(cache)
    assert hashes[2] == 0 and len(set(hashes)) == 4
    other = MemoryCache(torch.cat([x[20:40], x[:20]]), np.repeat([0, 1], 20))
    assert document_hashes(other).tolist() == [hashes[1], hashes[0]]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("at_once", [2 * 2**30, 0])
def test_training_rows_are_those_of_the_chosen_documents_each_once(monkeypatch, shuffle, at_once):
    monkeypatch.setattr("mneme.harvest.held_out.IN_MEMORY_BYTES", at_once)
    monkeypatch.setattr("mneme.harvest.held_out._BLOCK_ROWS", 8)
    x = torch.arange(300.0)[:, None, None].repeat(1, 2, 3)
    document = np.arange(300) // 10
    chosen = np.arange(30) % 3 > 0
    rows = TrainingRows(MemoryCache(x, document), chosen)
    expected = np.flatnonzero(chosen[document])
    batches = list(rows.batches(32, shuffle=shuffle, seed=3))
    seen = torch.cat(batches)[:, 0, 0].numpy()
    assert rows.n == 200 and sorted(seen) == expected.tolist()
    assert shuffle == (list(seen) != expected.tolist())
    halves = [list(rows.batches(32, shuffle=shuffle, seed=3, part=(r, 2))) for r in (0, 1)]
    for whole, *parts in zip(batches, *halves, strict=True):
        assert torch.equal(torch.cat(parts), whole)


def test_training_reads_no_held_out_document_and_says_what_it_read(cache, crosscoder, tmp_path):
    held = choose_held_out(document_hashes(cache), 0.3)
    assert (held_out_of(cache, crosscoder.training_documents) == held).all()
    # what the held-out documents hold makes no difference
    other = MemoryCache(cache.activations.clone(), cache.document)
    middle = np.flatnonzero(held[cache.document] & (np.diff(cache.document, append=-1) == 0))
    other.activations[middle] += 100
    again = train_crosscoder(other, CONFIG)
    assert torch.equal(again.W_dec, crosscoder.W_dec)
    crosscoder.save_pretrained(tmp_path)
    read = Crosscoder.from_pretrained(tmp_path).training_documents
    assert torch.equal(read, crosscoder.training_documents)


def test_as_many_steps_are_made_as_on_all_the_text(cache):
    rows = []
    config = dataclasses.replace(CONFIG, tokens=None, epochs=3, log_every=1)
    train_crosscoder(cache, config, log=rows.append)
    assert rows[-1]["step"] == 3 * cache.n // 512


def test_evidence_is_what_the_held_out_documents_alone_give(cache, crosscoder, tmp_path):
    held = evidence_documents(crosscoder, cache)
    found = attribute(crosscoder, cache, tmp_path / "whole").latents
    mine = held[cache.document]
    alone_cache = MemoryCache(cache.activations[torch.from_numpy(mine)], cache.document[mine])
    alone = attribute(crosscoder, alone_cache, tmp_path / "alone").latents
    for name in (
        "beta_base",
        "beta_tuned",
        "log_ratio",
        "p_value",
        "n_documents",
        "turn_p",
    ):
        np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert (found["n_active"] >= alone["n_active"]).all() and found["n_active"].sum() > 2 * alone[
        "n_active"
    ].sum()


def test_other_text_is_evidence_as_a_whole_and_unknown_training_is_told(pair, cache, crosscoder):
    assert evidence_documents(crosscoder, planted_cache(pair, 60, 9)) is None
    health = attribution_health(attribute(crosscoder, cache, None), cache, 4, crosscoder).set_index("metric")
    held = choose_held_out(document_hashes(cache), 0.3)
    assert health.loc["held_out_documents", "value"] == held.sum()
    assert health.loc["held_out_documents", "status"] == "ok"
    assert health.loc["held_out_explained_variance_base", "value"] == pytest.approx(
        reconstructions(crosscoder, cache, [held])[0].explained_variance[0]
    )
    assert 0 <= health.loc["held_out_log_ratio", "value"] < 0.3

    everything = train_crosscoder(cache, dataclasses.replace(CONFIG, held_out_share=0.0, tokens=5_000))
    in_sample = attribution_health(attribute(everything, cache, None), cache, 4, everything).set_index(
        "metric"
    )
    assert in_sample.loc["held_out_documents", ["value", "status"]].tolist() == [0, "warn"]
    everything.training_documents = None
    found = attribute(everything, cache, None)
    for imported, value in ((True, 250), (False, 0)):
        rows = attribution_health(found, cache, 4, everything, imported).set_index("metric")
        assert rows.loc["held_out_documents", "value"] == value


def test_rank_and_share_are_those_of_the_difference(crosscoder):
    rng = np.random.default_rng(0)
    base = torch.from_numpy(rng.normal(size=(400, 32))).float()
    axes = torch.eye(32)[:3]
    moved = torch.from_numpy(rng.normal(size=(400, 3))).float() @ axes + 5.0
    cache = MemoryCache(torch.stack([base, base + moved], 1), np.arange(400) // 20)
    found = reconstructions(crosscoder, cache, [np.ones(20, bool)])[0]
    D = moved.double().numpy()
    values = np.linalg.eigvalsh(np.cov(D.T))
    assert found.difference_rank == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-4)
    error = (cache.activations - crosscoder(cache.activations)).double().numpy()
    left = np.square(error[:, 1] - error[:, 0]).sum() / np.square(D - D.mean(0)).sum()
    assert found.difference_explained == pytest.approx(1 - left, rel=1e-4)
    same = MemoryCache(torch.stack([base, base], 1), np.arange(400) // 20)
    assert np.isnan(reconstructions(crosscoder, same, [np.ones(20, bool)])[0].difference_rank)


def test_a_sparse_change_is_explained_and_one_spread_over_all_directions_is_not(pair, cache, crosscoder):
    held = evidence_documents(crosscoder, cache)
    assert reconstructions(crosscoder, cache, [held])[0].difference_explained > SPARSE_ENOUGH
    still = planted_cache(PlantedPair(PLANTED.without_changes()), 250, 1)
    # a little in every direction at each token
    spread = still.activations.clone()
    spread[:, 1] = spread[:, 0] + 0.3 * torch.randn(
        spread[:, 0].shape, generator=torch.Generator().manual_seed(1)
    )
    dense = MemoryCache(spread, still.document)
    trained = train_crosscoder(dense, CONFIG)
    found = reconstructions(trained, dense, [evidence_documents(trained, dense)])[0]
    assert found.difference_explained < SPARSE_ENOUGH and found.difference_rank > 16
