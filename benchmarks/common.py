"""What every benchmark ends with: the machine it ran on, and one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import psutil
import torch


def machine() -> dict[str, Any]:
    """The hardware and versions that rates depend on; what can't be told is 'unknown'."""
    capabilities = torch.cpu.get_capabilities()
    name = capabilities.get("cpu_name") or platform.processor() or "unknown"
    return {
        "cpu": name,
        "cores": os.cpu_count() or "unknown",
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "avx512_bf16": bool(capabilities.get("avx512_bf16", False)),
        "amx_bf16": bool(capabilities.get("amx_bf16", False)),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def peak_memory_gb() -> float:
    """The highest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def forget_peak() -> None:
    """Start to count the highest resident memory from now on; only Linux can."""
    counter = Path("/proc/self/clear_refs")
    if counter.exists():
        counter.write_text("5")


def peak_since_gb() -> float | None:
    """The highest resident memory of this process since `forget_peak`; None where the system doesn't tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def resident_gb() -> float:
    """What this process holds now."""
    return psutil.Process().memory_info().rss / 1e9


def floor(value: float | None, least: float) -> dict[str, Any]:
    """A floor to reach: met is None where nothing was measured (say why in the results)."""
    return {"value": value, "floor": least, "met": None if value is None else value >= least}


def print_result(name: str, results: dict[str, Any], floors: dict[str, dict[str, Any]]) -> None:
    """The last line of a benchmark."""
    line = {"benchmark": name, "machine": machine(), "results": results, "floors": floors}
    print(json.dumps(line, default=_plain))


def _plain(value: Any) -> Any:
    """numpy's numbers and truth values as Python's."""
    return value.item()


def size_mb(path: Path) -> float:
    """Of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return round(sum(f.stat().st_size for f in files) / 1e6, 1)
