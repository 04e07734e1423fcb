"""Freed blocks are used again: fewer page faults, nothing else changes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mneme._util.memory import keep_freed_memory

BLOCK = """
import resource, torch
from mneme._util.memory import give_back_freed_memory, keep_freed_memory
import psutil
{call}
for _ in range(20):  # glibc's aligned blocks fit into freed ones only when those have grown together
    torch.ones(16_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(16_000_000)  # 64 MB, freed at once
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
held = psutil.Process().memory_info().rss
give_back_freed_memory()
print(faults, held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="the C library here is not glibc")
def test_freed_blocks_are_used_again_and_given_back_when_asked() -> None:
    def run(call: str) -> tuple[int, int]:
        done = subprocess.run(
            [sys.executable, "-c", BLOCK.format(call=call)], capture_output=True, text=True, check=True
        )
        faults, freed = map(int, done.stdout.split())
        return faults, freed

    kept, given_back = run("keep_freed_memory()")
    anew, _ = run("")
    assert kept < anew / 4  # anew: every page of every block, 4 x 15,625 of 4 kB
    assert given_back > 60_000_000
