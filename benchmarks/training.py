"""How fast one training step of the crosscoder is, against what it can't avoid and against plain autograd.

    python benchmarks/training.py [--rounds 3] [--threads 1 2]

At each size, in one process and interleaved, so that a machine's neighbours slow all alike: the encoder
product alone (float32, bfloat16), the sparse step with each, the dense step with each. Ratios are medians
over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import floor, print_result
from torch import Tensor

from mneme._util.memory import keep_freed_memory
from mneme.crosscoder.step import Rule, Weights, training_step

WIDTH, K = 576, 32
SIZES = ((8192, 2048), (18432, 4096))  # latents, batch
FLOORS = {  # ratio: at least
    ("sparse fp32", "product fp32"): 0.65,
    ("sparse bf16", "product bf16"): 0.5,
    ("sparse fp32", "dense fp32"): 4.0,
    ("sparse bf16", "dense fp32"): 7.0,
}


def make_problem(n_latents: int, batch: int, width: int = WIDTH) -> tuple[Weights, Tensor]:
    """Weights as training starts with, and (B, 2d) normalised activations in which both models are alike."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(n_latents, width, generator=generator), dim=1)
    both = torch.cat([directions, directions], dim=1)
    x = torch.randn(batch, width, generator=generator)
    x = torch.cat([x, x + 0.1 * torch.randn(batch, width, generator=generator)], dim=1)
    return Weights(both, torch.zeros(n_latents), both.clone(), torch.zeros(2 * width)), x


def make_work(n_latents: int, batch: int) -> dict[str, Callable[[], object]]:
    """What is timed, all of it with freed memory kept, as in training."""
    keep_freed_memory()
    weights, x = make_problem(n_latents, batch)
    none_dead = torch.zeros(n_latents, dtype=torch.bool)
    enc16, x16 = weights.enc.bfloat16(), x.bfloat16()
    rule = Rule("batchtopk", K, 1 / 32, WIDTH // 2, 0.0, 0.0, False)
    # As in training, the hint comes from the step before.
    rule = rule._replace(hint=0.9 * training_step(weights, x, rule, none_dead, sparse=True).smallest)

    def step(sparse: bool, bf16: bool) -> Callable[[], object]:
        return lambda: training_step(weights, x, rule._replace(bf16=bf16), none_dead, sparse=sparse)

    return {
        "product fp32": lambda: x @ weights.enc.T,
        "product bf16": lambda: x16 @ enc16.T,
        "sparse fp32": step(True, False),
        "sparse bf16": step(True, True),
        "dense fp32": step(False, False),
        "dense bf16": step(False, True),
    }


def measure(n_latents: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each piece of work in each round; the first round warms up and is left out."""
    work = make_work(n_latents, batch)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], fast: str, than: str) -> float:
    """Median over rounds of rate(fast) / rate(than)."""
    return statistics.median(t / f for f, t in zip(seconds[fast], seconds[than], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed repetitions")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts to measure")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes, smallest first")
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    floors = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        for n_latents, batch in SIZES[: options.sizes]:
            where = f"F={n_latents} B={batch} threads={threads}"
            print(f"\n{where} (d={WIDTH}, k={K})\n{'':14}  tokens/s   of fp32 product   times dense fp32")
            seconds = measure(n_latents, batch, options.rounds)
            rates = {name: batch / statistics.median(times) for name, times in seconds.items()}
            for name, rate in rates.items():
                product, dense = (ratio(seconds, name, other) for other in ("product fp32", "dense fp32"))
                print(f"{name:14}  {rate:8.0f}   {product:15.2f}   {dense:16.2f}")
            results[where] = rates
            if threads == options.threads[-1]:
                for (fast, than), least in FLOORS.items():
                    floors[f"{fast} / {than}, {where}"] = floor(ratio(seconds, fast, than), least)
    print()
    print_result("training", results, floors)


if __name__ == "__main__":
    main()
