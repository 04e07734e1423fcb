"""Several processes that work as one: the ranks that torchrun starts, joined by torch.distributed.

    torchrun --nproc-per-node 8 -m mneme run settings.toml

Without torchrun there is one rank, rank 0. What is called a collective here must be called by every rank.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from mneme._util.errors import ConfigError, MnemeError
from mneme._util.ranks_started import whole_variable

T = TypeVar("T")

_PATIENCE = datetime.timedelta(hours=24)  # ranks wait for each other through model loading and tokenising


def join() -> None:
    """Join the ranks torchrun started, each on its own GPU where there are any. Collective.

    Raises ConfigError for more processes than GPUs.
    """
    if torch.cuda.is_available():
        here, gpus = whole_variable("LOCAL_WORLD_SIZE", 1), torch.cuda.device_count()
        if here > gpus:
            raise ConfigError(
                f"{here} processes were started on this machine, which has {gpus} GPUs: give torchrun"
                f" --nproc-per-node {gpus}, or set CUDA_VISIBLE_DEVICES= to work without GPUs"
            )
        torch.cuda.set_device(whole_variable("LOCAL_RANK", 0))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)


def leave() -> None:
    """From here on this process works alone. Collective."""
    if world_size() > 1:
        dist.destroy_process_group()


def world_size() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this process is."""
    return dist.get_rank() if world_size() > 1 else 0


def share(n: int, part: tuple[int, int]) -> slice:
    """Of n things in order, those of part (r, of how many): parts are disjoint and differ by one at most."""
    number, parts = part
    return slice(n * number // parts, n * (number + 1) // parts)


def from_first(value: T) -> T:
    """Rank 0's value, on every rank (pickled). Collective."""
    if world_size() == 1:
        return value
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0, device=torch.device("cpu"))
    found: T = held[0]
    return found


def add_up(*sums: np.ndarray) -> None:
    """Replace arrays by their sums over all ranks, in place. Collective."""
    if world_size() > 1:
        for array in sums:
            dist.all_reduce(torch.from_numpy(array))


def largest(array: np.ndarray) -> None:
    """Replace an array by the ranks' largest, element by element, in place. Collective."""
    if world_size() > 1:
        dist.all_reduce(torch.from_numpy(array), dist.ReduceOp.MAX)


def my_rows(n: int, document: np.ndarray | None = None) -> tuple[int, int]:
    """This rank's token range [first, stop): about n / world_size of the n tokens, never splitting a document.

    document: (n,), one document's tokens contiguous; None: tokens are dealt without regard to documents.
    """
    ends = [share(n, (rank(), world_size())).start, share(n, (rank(), world_size())).stop]
    if document is None or world_size() == 1:
        return ends[0], ends[1]
    firsts = np.r_[0, np.flatnonzero(np.diff(document)) + 1, n]
    first, stop = firsts[np.searchsorted(firsts, ends)]  # an end amid a document moves to the next one
    return int(first), int(stop)


def gather(make: Callable[[], T]) -> list[T]:
    """What `make` gives on every rank, in rank order, on every rank (pickled). Collective.

    Raises, on all ranks, the first rank's MnemeError where any raised one: none is left waiting.
    """
    if world_size() == 1:
        return [make()]
    mine: T | MnemeError
    try:
        mine = make()
    except MnemeError as error:
        mine = error
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, mine)
    for each in found:
        if isinstance(each, MnemeError):
            raise each
    return found
