"""Whether all that runs need is in place on this machine, and what it can do."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from mneme._util.errors import MnemeError, first_line
from mneme._util.versions import versions

_PATIENCE = 3.0  # seconds for a connection


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    said: str
    fine: bool | None
    """None: not there, and not needed."""


def examine() -> list[Finding]:
    """Versions, threads, bfloat16, GPU, memory, sentence encoder, labelling server. Nothing is sent to the server."""
    return [_versions(), *_processor(), _gpu(), _memory(), _encoder(), _labelling_server()]


def _versions() -> Finding:
    return Finding("versions", ", ".join(f"{name} {version}" for name, version in versions().items()), True)


def _processor() -> list[Finding]:
    import torch

    from mneme.models.device import bf16_is_fast

    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    fast = bf16_is_fast(torch.device("cpu"))
    return [
        Finding("threads", f"{threads} on {cores} cores" + " (OMP_NUM_THREADS?)" * (threads < cores), True),
        Finding(
            "bfloat16", "fast on this processor" if fast else "slow on this processor: float32 is used", True
        ),
    ]


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "none that PyTorch sees: runs use the processor", None)
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Finding("GPU", ", ".join(names), True)


def _memory() -> Finding:
    import psutil

    free, whole = psutil.virtual_memory().available / 1e9, psutil.virtual_memory().total / 1e9
    return Finding("memory", f"{free:.1f} of {whole:.1f} GB available; the demo needs 4", free >= 4)


def _encoder() -> Finding:
    from mneme.interpret.encoder import SentenceEncoder

    try:
        return Finding("sentence encoder", f"found, vectors of {SentenceEncoder().width}", True)
    except MnemeError as error:
        return Finding("sentence encoder", first_line(error), False)


def _labelling_server() -> Finding:
    what = "labelling server"
    model, url, key = (os.environ.get(f"OPENAI_{name}") for name in ("MODEL", "BASE_URL", "API_KEY"))
    if not model or not (url or key):
        return Finding(
            what, "none set (OPENAI_MODEL with OPENAI_BASE_URL or OPENAI_API_KEY): labels are offline", None
        )
    parts = urlsplit(url or "https://api.openai.com/v1")
    try:
        place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        with socket.create_connection(place, timeout=_PATIENCE):
            return Finding(
                what, f"{parts.hostname} answers; model {model}, key {'set' if key else 'not set'}", True
            )
    except (OSError, ValueError) as error:
        return Finding(
            what, f"no connection to {parts.hostname} ({first_line(error)}): check OPENAI_BASE_URL", False
        )
