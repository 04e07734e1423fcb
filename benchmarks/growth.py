"""How a training step grows with the number of latents F, k, tokens B and width d: seconds and peak memory.

    python benchmarks/growth.py [--rounds 3] [--threads 2]

One of the four is halved or doubled at a time, the others stay at the reference; all points take turns in one
process, and a figure is the median over rounds of its seconds over the reference's in the same round. Peak
memory is of a process of its own for each point, above what it held once its weights and batch were made: what
the step itself needs, gradients included, without Adam's means. The dense step is plain autograd over (B, F) tensors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from common import forget_peak, peak_since_gb, print_result, resident_gb
from training import make_problem

from mneme.crosscoder.step import Rule, Step, training_step

KINDS = ("sparse fp32", "sparse bf16", "dense fp32")


class Point(NamedTuple):
    """The sizes of one step."""

    F: int = 8192
    k: int = 32
    B: int = 1024
    d: int = 576

    def step(self, kind: str) -> Callable[[], Step]:
        """A function that takes a step; from its second call on with a hint from the one before, as in training."""
        weights, x = make_problem(self.F, self.B, self.d)
        none_dead = torch.zeros(self.F, dtype=torch.bool)
        rule = Rule("batchtopk", self.k, 1 / 32, self.d // 2, 0.0, 0.0, kind.endswith("bf16"))
        hint = 0.0

        def take() -> Step:
            nonlocal hint
            sparse = kind.startswith("sparse")
            step = training_step(weights, x, rule._replace(hint=hint), none_dead, sparse=sparse)
            hint = 0.9 * step.smallest
            return step

        return take


REFERENCE = Point()
POINTS = [REFERENCE] + [
    REFERENCE._replace(**{name: round(getattr(REFERENCE, name) * times)})
    for name in Point._fields
    for times in (0.5, 2)
]


def peak_of(point: Point, kind: str) -> float | None:
    """GB that a step of a fresh process takes at its height; None where the system doesn't tell (only Linux does)."""
    command = [sys.executable, __file__, "--peak", kind, *map(str, point)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def measure_peak(point: Point, kind: str) -> float | None:
    """The same, of this process."""
    step = point.step(kind)
    before = resident_gb()
    forget_peak()
    step()
    peak = peak_since_gb()
    return None if peak is None else peak - before


def measure_seconds(rounds: int) -> dict[Point, dict[str, list[float]]]:
    """Seconds of sparse steps at every point, in turn; the first round warms up and gives the hint."""
    kinds = [kind for kind in KINDS if kind.startswith("sparse")]
    steps = {(point, kind): point.step(kind) for point in POINTS for kind in kinds}
    seconds: dict[Point, dict[str, list[float]]] = {point: {kind: [] for kind in kinds} for point in POINTS}
    for round_ in range(rounds + 1):
        for (point, kind), step in steps.items():
            start = time.perf_counter()
            step()
            if round_ > 0:
                seconds[point][kind].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each point")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak", nargs=5, metavar=("KIND", *Point._fields), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        kind, *sizes = options.peak
        print(json.dumps(measure_peak(Point(*map(int, sizes)), kind)))
        return
    seconds = measure_seconds(options.rounds)
    at_reference = seconds[REFERENCE]
    print(f"{'':32}{'seconds, of the reference':^28}{'peak memory of a step, GB':^36}")
    print(f"{'F':>8}{'k':>6}{'B':>7}{'d':>7}    {'sparse fp32':>14}{'sparse bf16':>14}", end="")
    print("".join(f"{kind:>12}" for kind in KINDS))
    results = {}
    for point in POINTS:
        growth = {
            kind: statistics.median(t / r for t, r in zip(times, at_reference[kind], strict=True))
            for kind, times in seconds[point].items()
        }
        peaks = {kind: peak_of(point, kind) for kind in KINDS}
        print(f"{point.F:8}{point.k:6}{point.B:7}{point.d:7}    ", end="")
        print("".join(f"{ratio:14.2f}" for ratio in growth.values()), end="")
        print("".join("     unknown" if gb is None else f"{gb:12.3f}" for gb in peaks.values()), flush=True)
        results[" ".join(f"{name}={size}" for name, size in point._asdict().items())] = {
            "seconds_of_reference": growth,
            "median_seconds": {kind: statistics.median(times) for kind, times in seconds[point].items()},
            "peak_gb_of_a_step": peaks,
        }
    print()
    print_result("growth", results, {})


if __name__ == "__main__":
    main()
