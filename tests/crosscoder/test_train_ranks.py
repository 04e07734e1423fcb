"""Training on two processes: the weights that one process gets, the same on both, stopped or not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from crosscoder_world import planted
from ranks import run_ranks

from mneme._util import distributed
from mneme._util.errors import ConfigError
from mneme.crosscoder import CrosscoderConfig, train_crosscoder
from mneme.crosscoder.grid import Grid, check_ranks
from mneme.crosscoder.kernels import largest
from mneme.crosscoder.source import as_source
from mneme.crosscoder.trainer import Trainer

CONFIG = CrosscoderConfig(
    n_latents=48, k=3, batch_size=64, epochs=4, log_every=5, checkpoint_every=4, encoder_dtype="float32",
    dead_share=0.02,
)  # fmt: skip


class StoppedError(Exception):
    pass


def train(x: torch.Tensor, config: CrosscoderConfig, folder: Path | None = None) -> tuple[dict, list]:
    """A state dict and the rows of the log."""
    rows: list[dict[str, float]] = []
    return train_crosscoder(x, config, checkpoint=folder, log=rows.append).state_dict(), rows


def stop_at_24(x: torch.Tensor, config: CrosscoderConfig, folder: Path) -> None:
    """Leave a checkpoint of 24 steps."""

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 25:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_crosscoder(x, config, checkpoint=folder, log=stop)
    distributed.gather(lambda: None)
    assert torch.load(folder / "checkpoint.pt")["state"]["step"] == 24


def train_thrice(x: torch.Tensor, config: CrosscoderConfig, folder: Path) -> list[dict]:
    """Whole; stopped and gone on with; gone on with from what one process left in folder/alone."""
    whole, _ = train(x, config)
    stop_at_24(x, config, folder)
    return [whole, train(x, config, folder)[0], train(x, config, folder / "alone")[0]]


def assert_same(a: dict, b: dict) -> None:
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def assert_close(a: dict, b: dict, rel: float = 2e-4) -> None:
    for name, value in a.items():
        assert float((value - b[name]).norm()) <= rel * float(value.norm()), name


def train_all(x: torch.Tensor, configs: list[CrosscoderConfig]) -> list[tuple[dict, list]]:
    """Starting the processes takes longer than all trainings."""
    held = Trainer(as_source(x), configs[0], None).weights
    assert len(held.enc) == len(held.dec) == 48 // configs[0].latent_shards
    return [train(x, config) for config in configs]


@pytest.mark.parametrize(("n_ranks", "shards"), [(2, 1), (2, 2), (4, 2)], ids=["tokens", "latents", "both"])
def test_several_processes_learn_what_one_does(n_ranks, shards):
    x = planted()
    configs = [
        replace(CONFIG, variant=variant, kernel=kernel, latent_shards=shards)
        for variant, kernel in itertools.product(("batchtopk", "topk", "l1"), ("sparse", "dense"))
    ]
    first, *_, second = run_ranks(train_all, x, configs, n=n_ranks)
    for config, here, there in zip(configs, first, second, strict=True):
        alone, rows = train(x, config)
        assert_same(here[0], there[0])
        assert_close(alone, here[0])
        assert here[1] == there[1]
        for one, two in zip(rows, here[1], strict=True):
            assert two == pytest.approx(one, rel=1e-3, abs=1e-4), config
        if config.variant == "batchtopk":
            assert max(row["aux_loss"] for row in rows) > 0  # dead latents were part of it


@pytest.mark.parametrize("shards", [1, 2])
def test_two_processes_stopped_and_gone_on_with_end_bit_for_bit(shards, tmp_path):
    x, config = planted(), replace(CONFIG, latent_shards=shards)
    stop_at_24(x, CONFIG, tmp_path / "alone")
    (whole, resumed, taken_over), other = run_ranks(train_thrice, x, config, tmp_path)
    assert_same(whole, resumed)
    assert_same(resumed, other[1])
    assert_same(taken_over, other[2])
    if shards == 2:  # (with shares of the tokens the normaliser may differ in its last bit: a new training)
        assert_close(whole, taken_over)
        assert not torch.equal(whole["W_dec"], taken_over["W_dec"])  # its first 24 steps are the other's
    assert not (tmp_path / "checkpoint.pt").exists()


Case = tuple[torch.Tensor, int, float]


def select_all(cases: list[Case]) -> list[tuple[torch.Tensor, float]]:
    """The values this rank keeps of its half of the rows, and the least kept by any."""
    found = []
    for values, n, hint in cases:
        mine = values.chunk(dist.get_world_size())[dist.get_rank()]
        kept, least = Grid.of_ranks().largest(mine, n, hint)
        found.append((mine.reshape(-1)[kept], least))
    return found


def test_the_largest_of_both_processes_are_kept_exactly():
    values = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    values[:, 3] = 1.5  # many ties
    none = torch.zeros(4, 5)
    cases = [
        (tensor, n, hint)
        for tensor in (values, values.bfloat16(), none)
        for n in (1, 120, 5000)
        for hint in (0.0, 1.2, 50.0)  # absent, near, too high
    ]
    first, second = run_ranks(select_all, cases)
    for (tensor, n, hint), here, there in zip(cases, first, second, strict=True):
        wanted, smallest = largest(tensor, n, hint)
        kept = torch.cat([here[0], there[0]])
        assert torch.equal(kept.sort().values, tensor.reshape(-1)[wanted].sort().values)
        assert here[1] == there[1] == smallest


def test_a_batch_smaller_than_the_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setattr("mneme._util.distributed.world_size", lambda: 2)
    with pytest.raises(ConfigError, match="a batch of 1 tokens has none for some of the 2 processes"):
        train_crosscoder(planted(), replace(CONFIG, batch_size=1))


def test_shards_that_divide_nothing_evenly_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="latent_shards = 2 does not divide 47 latents"):
        Grid(2, 0, 2).own_latents(47)
    monkeypatch.setattr("mneme._util.distributed.world_size", lambda: 3)
    with pytest.raises(ConfigError, match="latent_shards = 2 does not divide the 3 processes"):
        Grid.of_ranks(2)


def test_what_the_processes_cannot_share_is_known_before_training(monkeypatch):
    config = CrosscoderConfig(n_latents=48, k=3, batch_size=64, latent_shards=2)
    check_ranks(config, 47, 1)  # one process holds all
    monkeypatch.setattr("mneme._util.distributed.world_size", lambda: 4)
    check_ranks(config, 48, 1000)
    for latents, n_tokens, message in (
        (47, 1000, "latent_shards = 2 does not divide 47 latents"),
        (48, 1, "a batch of 1 tokens has none for some of the 2 processes"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_ranks(config, latents, n_tokens)
