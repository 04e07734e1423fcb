"""Where a model runs and in which precision, when the user leaves it to us."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from mneme.errors import ConfigError

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def pick_device(device: str) -> torch.device:
    """'auto' -> the GPU where there is one, else the CPU. ConfigError for a device that isn't there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} is unknown: give auto, cpu, cuda or cuda:N") from error
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device {device!r} isn't there: give auto, cpu or one of the GPUs torch sees")
    return picked


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


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """'auto' -> bfloat16 where the hardware multiplies it (GPU, CPU with avx512_bf16), else float32."""
    if dtype == "auto":
        # Elsewhere a CPU emulates bf16 products and is slower than in float32.
        fast = device.type != "cpu" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        return torch.bfloat16 if fast else torch.float32
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown: give auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]
