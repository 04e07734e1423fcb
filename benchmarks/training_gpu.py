"""How fast one training step of the crosscoder is on a GPU, at the size of an 8B model's residual stream.

    python benchmarks/training_gpu.py [--rounds 5] [--profile]

d = 4,096, F = 131,072, k = 100, B = 32,768 tokens, in one process and interleaved, timed by the GPU's own clock:

    product    the encoder's product alone, bfloat16: x (B, 2d) by the encoder (2d, F), which no step can do without
    sparse     `training_step`, bfloat16: loss and gradients
    whole      the same, then clipping and Adam, as in training
    with dead  the sparse step where a twentieth of the latents is dead, and AuxK at work
    dense      plain autograd over (B, F) tensors, bfloat16 products

Ratios are medians over rounds. Peak memory is what torch allocated while a piece of work ran, the weights included.
Without a GPU nothing is measured, and the line of JSON says so.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import torch
from common import floor, print_result
from torch import Tensor
from training import make_problem

from mneme.crosscoder.kernels import triton_kernels
from mneme.crosscoder.step import Rule, Step, Weights, global_norm, training_step

FLOORS = {"sparse / product": 0.5, "sparse / dense": 2.5}  # rates, at least


def make_work(d: int, F: int, k: int, B: int, device: torch.device) -> dict[str, Callable[[], Any]]:
    """What is timed, on weights as training starts with and two models that are nearly alike."""
    weights, x = make_problem(F, B, d)
    weights, x = Weights(*(part.to(device).requires_grad_() for part in weights)), x.to(device)
    rule = Rule("batchtopk", k, 1 / 32, d // 2, 0.0, 0.0, True)
    none_dead = torch.zeros(F, dtype=torch.bool, device=device)
    # As in training, the hint comes from the step before.
    rule = rule._replace(hint=0.9 * training_step(weights, x, rule, none_dead, sparse=True).smallest)
    enc16, x16 = weights.enc.detach().bfloat16(), x.bfloat16()
    optimizer = torch.optim.Adam(
        weights, lr=0.0, fused=True
    )  # weights stay, so that every round does the same

    some_dead = torch.arange(F, device=device) % 20 == 0

    def step(sparse: bool, dead: Tensor = none_dead) -> Step:
        return training_step(weights, x, rule, dead, sparse=sparse)

    def whole() -> None:
        grads = step(sparse=True).grads
        clip = 1 / global_norm(grads).clamp_min(1)
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad.mul_(clip)
        optimizer.step()
        optimizer.zero_grad()

    return {
        "product": lambda: x16 @ enc16.T,
        "sparse": lambda: step(sparse=True),
        "with dead": lambda: step(sparse=True, dead=some_dead),
        "dense": lambda: step(sparse=False),
        "whole": whole,  # last: Adam's means stay
    }


def seconds_of(work: Callable[[], Any]) -> float:
    """By the GPU's events."""
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1000


def agreement(work: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """How far the sparse step's loss and gradients are from the dense one's, relative."""
    sparse, dense = work["sparse"](), work["dense"]()
    found = {"loss": float((sparse.loss - dense.loss).abs() / dense.loss)}
    for name, a, b in zip(Weights._fields, sparse.grads, dense.grads, strict=True):
        found[name] = float((a - b).norm() / b.norm())
    return found


def measure(
    work: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each round and peak GB; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    peaks = {}
    for round_ in range(rounds + 1):
        for name, run in work.items():
            torch.cuda.reset_peak_memory_stats()
            took = seconds_of(run)
            peaks[name] = torch.cuda.max_memory_allocated() / 1e9
            if round_ > 0:
                seconds[name].append(took)
    return seconds, peaks


def profile(work: Callable[[], Any]) -> None:
    """Where the GPU's time of one piece of work goes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    print(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=16, max_name_column_width=60))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--profile", action="store_true", help="also say which kernels a step spends its time in"
    )
    for name, size in (("d", 4096), ("F", 131_072), ("k", 100), ("B", 32_768)):
        parser.add_argument(f"-{name}", type=int, default=size)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: nothing is measured")
        none = {name: floor(None, least) for name, least in FLOORS.items()}
        print_result("training_gpu", {"not_measured": "this machine has no GPU"}, none)
        return
    device, size = torch.device("cuda"), (options.d, options.F, options.k, options.B)
    work = make_work(*size, device)
    if options.profile:
        work["sparse"]()
        profile(work["sparse"])
    off = agreement(work)
    seconds, peaks = measure(work, options.rounds)
    print(f"d = {options.d:,}, F = {options.F:,}, k = {options.k}, B = {options.B:,}")
    print("" if triton_kernels(device) else "Triton is not installed: the portable kernels are measured")
    print(f"{'':10}{'ms':>8}{'tokens/s':>12}{'of product':>12}{'times dense':>13}{'peak GB':>10}")
    ratios: dict[str, dict[str, float]] = {}
    for name, times in seconds.items():
        ratios[name] = {
            than: statistics.median(b / a for a, b in zip(times, seconds[than], strict=True))
            for than in ("product", "dense")
        }
        took = statistics.median(times)
        print(
            f"{name:10}{1000 * took:8.1f}{options.B / took:12,.0f}{ratios[name]['product']:12.2f}"
            f"{ratios[name]['dense']:13.2f}{peaks[name]:10.1f}"
        )
    flop = 4 * options.d * options.F * options.B
    rate = flop / statistics.median(seconds["product"]) / 1e12
    print(f"product: {rate:.0f} TFLOP/s; sparse against dense, relative: {off}\n")
    results = {
        "size": dict(zip("dFkB", size, strict=True)),
        "product_tflops": rate,
        "median_seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "ratios": ratios,
        "peak_gb": peaks,
        "sparse_against_dense_relative": off,
    }
    floors = {
        f"sparse / {than}": floor(ratios["sparse"][than], FLOORS[f"sparse / {than}"])
        for than in ("product", "dense")
    }
    print_result("training_gpu", results, floors)


if __name__ == "__main__":
    main()
