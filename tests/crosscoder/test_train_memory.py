"""Too little memory is told in one line with what would fit."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from crosscoder_world import planted

from mneme._util.errors import OutOfMemoryError
from mneme.crosscoder import CrosscoderConfig, train_crosscoder
from mneme.crosscoder.training_memory import training_bytes

CONFIG = CrosscoderConfig(n_latents=8192, k=3, batch_size=512, epochs=1, encoder_dtype="float32")


def fails(kind: type[BaseException], text: str = ""):
    def step(*_, **__):
        raise kind(text)

    return step


def suggestions(message: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"crosscoder\.(\w+) to (\d+)", message)}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (torch.OutOfMemoryError, "CUDA out of memory"),
        (MemoryError, ""),
        (RuntimeError, "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["gpu", "numpy", "torch on the host"],
)
def test_the_largest_sizes_that_fit_are_named(kind, text, monkeypatch):
    usable = training_bytes(8192, 300, 12, CONFIG, False)
    monkeypatch.setattr("mneme.crosscoder.trainer.training_step", fails(kind, text))
    monkeypatch.setattr("mneme.crosscoder.training_memory.usable_bytes", lambda device: usable)
    with pytest.raises(OutOfMemoryError) as found:
        train_crosscoder(planted(), CONFIG)
    message = str(found.value)
    assert "\n" not in message and "8,192 latents of width 12 and 512 tokens" in message
    fits = suggestions(message)
    # 300 would fit by the estimate; half of what did not fit is never passed
    assert fits["batch_size"] == 256
    assert 2048 < fits["n_latents"] <= 4096
    assert training_bytes(fits["n_latents"], 512, 12, CONFIG, False) <= usable


def test_where_no_batch_fits_only_fewer_latents_are_named(monkeypatch):
    usable = training_bytes(400, 512, 12, CONFIG, False)
    monkeypatch.setattr("mneme.crosscoder.trainer.training_step", fails(MemoryError))
    monkeypatch.setattr("mneme.crosscoder.training_memory.usable_bytes", lambda device: usable)
    with pytest.raises(OutOfMemoryError) as found:
        train_crosscoder(planted(), CONFIG)
    assert suggestions(str(found.value)) == {"n_latents": 384}


def test_a_dictionary_that_no_machine_holds_is_refused():
    with pytest.raises(OutOfMemoryError, match="lower crosscoder"):
        train_crosscoder(planted(), replace(CONFIG, n_latents=10**13))


def test_other_runtime_errors_stay_what_they_are(monkeypatch):
    monkeypatch.setattr("mneme.crosscoder.trainer.training_step", fails(RuntimeError, "a shape is wrong"))
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        train_crosscoder(planted(), CONFIG)
