"""Out of memory, told in one line: what was asked for, what there is, and what would fit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import psutil
import torch

from mneme.errors import OutOfMemoryError

_USABLE = 0.9  # of the memory: allocators leave gaps


def usable_bytes(device: torch.device) -> int:
    """What this process can have there, what it already holds included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(_USABLE * (free + torch.cuda.memory_reserved(device)))
    return int(_USABLE * (psutil.virtual_memory().available + psutil.Process().memory_info().rss))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU, torch on the host or numpy found no memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


@contextlib.contextmanager
def explained(advice: Callable[[], str]) -> Iterator[None]:
    """Raises OutOfMemoryError with `advice()` where the work within runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(advice()) from error


def gigabytes(n_bytes: float) -> str:
    """12.3 GB."""
    return f"{n_bytes / 1e9:,.1f} GB"


def fitting(n_bytes: float, bytes_each: float, asked: int) -> int:
    """How many things of `bytes_each` fit in `n_bytes`: at most half of what was asked for and did not."""
    found = min(int(n_bytes // bytes_each), asked // 2)
    return found // 64 * 64 if found >= 64 else max(found, 0)
