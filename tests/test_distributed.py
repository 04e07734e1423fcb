"""Joining the ranks: what can't work is refused before anything waits for anything."""

from __future__ import annotations

import pytest
import torch

from mneme._util import distributed
from mneme._util.errors import ConfigError


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"3 processes .* 2 GPUs: give torchrun --nproc-per-node 2"):
        distributed.join()
