"""Run a function on two processes joined by torch.distributed (gloo), as torchrun would."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(function: Callable[..., Any], *args: Any, n: int = 2) -> list[Any]:
    """What `function(*args)` returns on each of n ranks; it must be a module's own function.

    A rank that raises ends the others, and its exception is in the one raised here.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (n, folder, function, args), nprocs=n)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=False) for rank in range(n)]


def _rank(rank: int, n: int, folder: str, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # two processes can't share a GPU
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=n)
    torch.save(function(*args), Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
