"""Memory: reuse freed blocks, and turn out-of-memory failures into one line that says what was asked and would fit."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import psutil
import torch

from mneme._util.errors import OutOfMemoryError

_USABLE = 0.9  # of the memory: allocators leave gaps
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT = 2**30  # bytes


@cache
def keep_freed_memory() -> bool:
    """Have the C library use freed blocks again, for this process from now on; False where it can't be told.

    glibc gives blocks over 32 MB back to the system as soon as they are freed. A training step makes and frees several
    (gradients, pre-activations), and spends a fifth of its time on having them cleared page by page.
    """
    libc = _libc()
    return libc is not None and all(libc.mallopt(what, _KEPT) for what in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))


def give_back_freed_memory() -> None:
    """Give what `keep_freed_memory` kept back to the system, at the end of a stage."""
    if (libc := _libc()) is not None:
        libc.malloc_trim(0)


@cache
def _libc() -> Any:
    """The C library, where it is glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


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
