"""Where a model runs and in which precision, when the user leaves it to us."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import torch

from mneme._util.errors import ConfigError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def pick_device(device: str) -> torch.device:
    """'auto' -> the GPU where there is one, else the CPU. ConfigError for a device that isn't there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is unknown: give auto, cpu, cuda or cuda:N") from error
    if not _is_there(picked):
        raise ConfigError(f"device {device!r} isn't there: give auto, cpu or one of the GPUs torch sees")
    return picked


def _is_there(device: torch.device) -> bool:
    """Whether this machine has the device, and this build of torch can use it."""
    count: Callable[[], int] = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "xpu": torch.xpu.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
    }.get(device.type, lambda: 0)
    return (device.index or 0) < count()


@contextlib.contextmanager
def on_gpu(thing: object) -> Iterator[None]:
    """A module is on the GPU within, where there is one, and then back where it was; other things stay."""
    device = pick_device("auto")
    if not isinstance(thing, torch.nn.Module) or device.type == "cpu":
        yield
        return
    home = next(thing.parameters()).device
    thing.to(device)
    try:
        yield
    finally:
        thing.to(home)


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware there; elsewhere they are emulated, slower than float32.

    MNEME_BFLOAT16=on or off answers for CPUs whatever the processor: two machines then compute alike, and tests
    cover both kinds on either.
    """
    if device.type == "cuda":
        found: bool = torch.cuda.is_bf16_supported()
        return found
    if device.type != "cpu":
        return True
    asked = os.environ.get("MNEME_BFLOAT16", "auto")
    if asked not in ("auto", "on", "off"):
        raise ConfigError(f"MNEME_BFLOAT16={asked} is unknown: set on, off or auto")
    if asked != "auto":
        return asked == "on"
    return cpu_multiplies_bf16()


def cpu_multiplies_bf16() -> bool:
    """Whether this processor has instructions for bfloat16 products."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """'auto' -> bfloat16 where the hardware multiplies it (GPU, CPU with avx512_bf16), else float32."""
    if dtype == "auto":
        return torch.bfloat16 if bf16_is_fast(device) else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown: give auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]
