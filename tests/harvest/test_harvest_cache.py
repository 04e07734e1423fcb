"""Reading activations back, and going on after a harvest was stopped."""

from __future__ import annotations

import hashlib
import os
import signal
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mneme._util.errors import ActivationError
from mneme.corpus import Corpus
from mneme.harvest import ActivationCache, HarvestConfig, harvest, shards
from mneme.harvest import cache as cache_module
from mneme.models import ModelPair

pytestmark = pytest.mark.bf16
CONFIG = HarvestConfig(layer=2, context_length=40, batch_tokens=200, shard_tokens=200, min_tokens=10)


@pytest.fixture
def cache(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> ActivationCache:
    return harvest(pair, corpus, CONFIG, tmp_path / "cache")


def whole(cache: ActivationCache) -> torch.Tensor:
    return torch.cat([cache.read(i, i + 1) for i in range(cache.n)])


def same_row_multiset(a: torch.Tensor, b: torch.Tensor) -> bool:
    keys = [sorted(x.view(torch.uint8).numpy().tobytes() for x in rows) for rows in (a, b)]
    return keys[0] == keys[1]


def test_any_range_of_rows_is_read_across_shards(cache: ActivationCache) -> None:
    rows = whole(cache)
    assert len(list(cache.folder.glob("*.safetensors"))) > 3
    for start, stop in ((0, cache.n), (3, 3), (150, 460), (cache.n - 1, cache.n)):
        assert torch.equal(cache.read(start, stop), rows[start:stop])
    for start, stop in ((-1, 3), (5, 4), (0, cache.n + 1)):
        with pytest.raises(IndexError):
            cache.read(start, stop)


def test_batches_in_order_are_the_rows_in_order(cache: ActivationCache) -> None:
    batches = list(cache.batches(97))
    assert {len(b) for b in batches[:-1]} == {97}
    assert torch.equal(torch.cat(batches), whole(cache))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("size", [1, 64, 97, 10**6])
def test_shuffled_batches_hold_every_row_once(
    in_memory: bool, size: int, cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = whole(cache)
    if not in_memory:
        monkeypatch.setattr(cache_module, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(cache_module, "_BLOCK_ROWS", 16)
        monkeypatch.setattr(cache_module, "_BUFFER_BYTES", 80 * 2 * 16 * 2)  # 80 rows: smaller than a batch
    batches = list(cache.batches(size, shuffle=True, seed=3))
    assert all(len(b) == size for b in batches[:-1])
    assert same_row_multiset(torch.cat(batches), rows)
    again = torch.cat(list(cache.batches(size, shuffle=True, seed=3)))
    assert torch.equal(torch.cat(batches), again)
    assert not torch.equal(torch.cat(batches), rows)
    assert not torch.equal(torch.cat(list(cache.batches(size, shuffle=True, seed=4))), again)


def test_shuffling_from_disk_reads_runs_of_rows(
    cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(cache_module, "_BLOCK_ROWS", 32)
    reads: list[tuple[int, int]] = []
    original = ActivationCache._read_into

    def counted(self: ActivationCache, out: torch.Tensor, start: int, stop: int) -> None:
        reads.append((start, stop))
        original(self, out, start, stop)

    monkeypatch.setattr(ActivationCache, "_read_into", counted)
    list(cache.batches(50, shuffle=True))
    assert len(reads) == -(-cache.n // 32)
    assert {stop - start for start, stop in reads[:-1]} <= {32, cache.n % 32}


def test_a_small_cache_is_kept_in_memory_until_released(cache: ActivationCache) -> None:
    list(cache.batches(10))
    rows = whole(cache)
    for file in cache.folder.glob("*.safetensors"):
        file.unlink()
    assert torch.equal(cache.read(0, cache.n), rows)
    cache.release()
    with pytest.raises(FileNotFoundError):
        cache.read(0, 1)


def test_a_folder_without_harvest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ActivationError, match="no finished harvest"):
        ActivationCache(tmp_path)
    (tmp_path / shards.INDEX).write_text("{not json")
    with pytest.raises(ActivationError, match="no finished harvest"):
        ActivationCache(tmp_path)


def test_a_cache_of_something_else_is_refused_where_one_is_expected(cache: ActivationCache) -> None:
    assert ActivationCache(cache.folder, expect=cache.fingerprint).n == cache.n
    with pytest.raises(ActivationError, match="another pair, corpus or settings"):
        ActivationCache(cache.folder, expect="other")


def test_damage_is_found(cache: ActivationCache) -> None:
    cache.verify()
    file = cache.folder / shards.shard_name(1)
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ActivationError, match=r"00001\.safetensors is missing or damaged"):
        cache.verify()
    file.write_bytes(data[:-1])
    with pytest.raises(ActivationError, match="damaged"):
        ActivationCache(cache.folder)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_a_finished_harvest_is_not_made_again(
    cache: ActivationCache, pair: ModelPair, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {p.name: p.stat().st_mtime_ns for p in cache.folder.glob("*.safetensors")}
    before = digests(cache.folder)
    harvest(pair, corpus, CONFIG, cache.folder)
    assert {p.name: p.stat().st_mtime_ns for p in cache.folder.glob("*.safetensors")} == times
    assert digests(cache.folder) == before


def test_a_damaged_shard_and_those_after_it_are_made_anew(
    cache: ActivationCache, pair: ModelPair, corpus: Corpus
) -> None:
    before = digests(cache.folder)
    (cache.folder / shards.shard_name(2)).write_bytes(b"x")
    harvest(pair, corpus, CONFIG, cache.folder)
    assert digests(cache.folder) == before


def test_a_harvest_of_something_else_replaces_what_lies_there(
    cache: ActivationCache, pair: ModelPair, corpus: Corpus
) -> None:
    other = harvest(pair, corpus, replace(CONFIG, layer=3, shard_tokens=10**6), cache.folder)
    assert other.fingerprint != cache.fingerprint
    assert sorted(p.name for p in cache.folder.iterdir()) == ["00000.safetensors", shards.INDEX]


def test_an_error_midway_keeps_whole_shards(
    cache: ActivationCache, pair: ModelPair, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = shards.write_shard

    def full_disk(folder: Path, number: int, tensors: dict[str, torch.Tensor]) -> dict:
        if number == 2:
            raise OSError(28, "No space left on device")
        return original(folder, number, tensors)

    monkeypatch.setattr(shards, "write_shard", full_disk)
    with pytest.raises(OSError, match="No space left"):
        harvest(pair, corpus, CONFIG, tmp_path / "b")
    with pytest.raises(ActivationError, match="no finished harvest"):
        ActivationCache(tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
        shards.INDEX,
    ]
    monkeypatch.setattr(shards, "write_shard", original)
    harvest(pair, corpus, CONFIG, tmp_path / "b")
    assert digests(tmp_path / "b") == digests(cache.folder)


def test_kill_9_then_the_same_call_gives_the_same_files(
    cache: ActivationCache, pair: ModelPair, corpus: Corpus, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking is safe here: torch runs one thread
        child = os.fork()
    if child == 0:
        try:
            harvest_until_the_third_shard(pair, corpus, folder, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read(5) == "there"
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (folder / "00007.safetensors.tmp").write_bytes(b"half a shard")  # as a kill in a write leaves
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("0000[01].safetensors")}
    harvest(pair, corpus, CONFIG, folder)
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("0000[01].safetensors")} == kept
    assert digests(folder) == digests(cache.folder)


def harvest_until_the_third_shard(pair: ModelPair, corpus: Corpus, folder: Path, told: int) -> None:
    """Say so, and wait to be killed, where the third shard is there and the index doesn't know it yet."""
    original = shards.write_shard

    def stopping(folder: Path, number: int, tensors: dict[str, torch.Tensor]) -> dict:
        entry = original(folder, number, tensors)
        if number == 2:
            os.write(told, b"there")
            signal.pause()
        return entry

    shards.write_shard = stopping
    harvest(pair, corpus, CONFIG, folder)


@pytest.mark.parametrize("n_ranks", [2, 3, 8])
@pytest.mark.parametrize("size", [24, 97])
def test_ranks_read_their_shares_of_the_batches_that_one_process_reads(
    n_ranks: int, size: int, cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(cache_module, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(cache_module, "_BUFFER_BYTES", 400 * 2 * 16 * 2)
    alone = list(cache.batches(size, shuffle=True, seed=1))
    shares = [list(cache.batches(size, shuffle=True, seed=1, part=(r, n_ranks))) for r in range(n_ranks)]
    assert len(alone) > 4
    for batch, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_rank_reads_little_more_than_its_share(
    cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(cache_module, "_BLOCK_ROWS", 4)
    monkeypatch.setattr(cache_module, "_BUFFER_BYTES", 0)
    read: list[int] = []
    original = ActivationCache.read
    monkeypatch.setattr(
        ActivationCache,
        "read",
        lambda self, start, stop: read.extend(range(start, stop)) or original(self, start, stop),
    )
    size, buffers = 16, 16
    for rank in range(4):
        read.clear()
        n_rows = sum(len(batch) for batch in cache.batches(size, shuffle=True, part=(rank, 4)))
        assert cache.n // 4 - 2 <= n_rows <= cache.n // 4 + 2
        assert len(read) <= cache.n // 4 + 3 * buffers * 4  # and the ends of all buffers, a block or two each
