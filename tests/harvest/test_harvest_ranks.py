"""Two processes write the cache that one writes, and stop together where one of them can't go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from harvest_settings import CONFIG
from ranks import run_ranks
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme._util import distributed
from mneme._util.errors import ActivationError
from mneme._util.progress import NullProgress
from mneme.corpus import Corpus
from mneme.harvest import harvest
from mneme.models import ModelPair, pair_models

THREE_SHARDS = replace(CONFIG, shard_tokens=600)


def tiny_pair() -> ModelPair:
    return pair_models(tiny_llama(), changed_in_layer(tiny_llama(), 2), tiny_tokenizer())


class CountingProgress(NullProgress):
    """Adds up what it is told."""

    total = 0.0

    def task(self, name, total, unit=""):
        outer = self

        class Task:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def advance(self, amount=1):
                outer.total += amount

            def note(self, text):
                pass

        return Task()


def harvest_here(corpus: Corpus, folder: Path) -> tuple[int, float]:
    progress = CountingProgress()
    cache = harvest(tiny_pair(), corpus, THREE_SHARDS, folder, progress)
    return cache.n, progress.total


def harvest_in_turn(corpus: Corpus, folders: list[Path]) -> list[tuple[int, float]]:
    """In an empty folder; and in one where a harvest was stopped after its first shard."""
    return [harvest_here(corpus, folder) for folder in folders]


def test_two_processes_write_what_one_does(corpus: Corpus, tmp_path: Path) -> None:
    alone = harvest(tiny_pair(), corpus, THREE_SHARDS, tmp_path / "alone")
    index = json.loads((tmp_path / "alone" / "index.json").read_text())
    assert len(index["shards"]) % 2 == 1  # the last one leaves a process without work
    stopped = {**index, "complete": False, "shards": index["shards"][:1]}
    (tmp_path / "stopped").mkdir()
    for name in ("00000.safetensors", "00002.safetensors"):
        (tmp_path / "stopped" / name).write_bytes((tmp_path / "alone" / name).read_bytes())
    (tmp_path / "stopped" / "index.json").write_text(json.dumps(stopped))
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    found = run_ranks(harvest_in_turn, corpus, folders)
    tokens = float(sum(index["lengths"]))
    assert found == [[(alone.n, tokens)] * 2] * 2
    for folder in folders:
        assert json.loads((folder / "index.json").read_text()) == index  # SHA-256 of each shard among it


def refuse(corpus: Corpus, folder: Path) -> str:
    """Rank 1's model is broken; both ranks must hear of it."""
    tuned = tiny_llama(1)
    if distributed.rank() == 1:
        tuned.model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    pair = pair_models(tiny_llama(), tuned, tiny_tokenizer(), tuned_id="org/after")
    object.__setattr__(pair, "fingerprint", "the same")
    with pytest.raises(ActivationError) as found:
        harvest(pair, corpus, CONFIG, folder)
    return str(found.value)


def test_what_one_process_refuses_stops_both(corpus: Corpus, tmp_path: Path) -> None:
    first, second = run_ranks(refuse, corpus, tmp_path)
    assert first == second and "org/after gives NaN or infinite activations" in first
