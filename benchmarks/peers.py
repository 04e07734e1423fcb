"""One whole training step of other packages' sparse autoencoders, and of ours, at the same shapes.

    make bench-peers        (makes .venv-peers from benchmarks/peers/requirements.txt, then runs this)
    python benchmarks/peers.py [--rounds 3] [--threads 2] [--sizes 0 1] [--environment .venv-peers]

They train an autoencoder on the pair's concatenated activations (width 2d = 1,152), which is what a crosscoder
of two models is to them. Every row is a process of its own (theirs in an environment of their own), all kept
alive, waiting while another takes its step: step by step in turn, so that a machine's neighbours slow all
alike. Ratios are medians over rounds; the first round warms up. `float32`: everything; `bfloat16`: float32
weights, products in bfloat16 (autocast, or our encoder). Not the same work to a letter: eai-sparsify has TopK only,
and sign SGD (its default) keeps no means; all others do BatchTopK with Adam. Only ours has two decoder norms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import floor, print_result

HERE = Path(__file__).resolve().parent
WIDTH, K = 576, 32
SIZES = ((8192, 2048), (18432, 4096))  # latents, batch
PEERS = {
    "dictionary_learning": ("dictionary-learning", ("float32", "bfloat16")),
    "sae_lens": ("sae-lens", ("float32", "bfloat16")),
    "sae_lens_sparse": ("sae-lens, sparse activations", ("float32",)),
    "sparsify": ("eai-sparsify, sign SGD", ("float32", "bfloat16")),
    "sparsify_adam": ("eai-sparsify, Adam", ("float32", "bfloat16")),
}


class Worker:
    """A process that takes a step when told."""

    def __init__(self, python: str, trainer: str, size: tuple[int, int], dtype: str, threads: int) -> None:
        latents, batch = size
        arguments = [latents, batch, WIDTH, K, dtype, threads]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        self.process = subprocess.Popen(
            [python, str(HERE / "peers" / "worker.py"), trainer, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.seconds: list[float] = []
        self.peak_gb = 0.0
        self.failure = ""

    def wait(self) -> None:
        """Until it is ready (or has failed)."""
        self._reply()

    def step(self) -> float | None:
        """Seconds of one step; None once the process has failed."""
        if self.failure:
            return None
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        reply = self._reply()
        if reply is None:
            return None
        self.peak_gb = reply["peak_gb"]
        return reply["seconds"]

    def end(self) -> None:
        """Let it end, and wait for that."""
        if self.process.stdin is not None and not self.failure:
            self.process.stdin.close()
        self.process.wait()

    def _reply(self) -> dict[str, float] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        told = self.errors.read().strip().splitlines()
        self.failure = told[-1] if told else f"ended with exit code {self.process.returncode}"
        return None


def measure(
    python: str | None, size: tuple[int, int], dtype: str, rounds: int, threads: int
) -> dict[str, Worker]:
    """Steps of our trainer and of the peers that offer `dtype`, in turn."""
    workers = {"mneme": Worker(sys.executable, "mneme", size, dtype, threads)}
    for name, (_, dtypes) in PEERS.items():
        if python is not None and dtype in dtypes:
            workers[name] = Worker(python, name, size, dtype, threads)
    for worker in workers.values():  # they import at the same time
        worker.wait()
    for round_ in range(rounds + 1):
        for worker in workers.values():
            seconds = worker.step()
            if seconds is not None and round_ > 0:
                worker.seconds.append(seconds)
    for worker in workers.values():
        worker.end()
    return workers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1], help="which of the sizes")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--environment", default=str(HERE.parent / ".venv-peers"), help="the packages' own")
    options = parser.parse_args()
    python: str | None = str(Path(options.environment) / "bin" / "python")
    absent = ""
    if not Path(str(python)).exists():
        python, absent = None, f"not measured: no {options.environment} (make bench-peers makes it)"
        print(absent)
    results: dict[str, Any] = {}
    floors: dict[str, dict[str, Any]] = {}
    for size in [SIZES[i] for i in options.sizes]:
        for dtype in options.dtypes:
            where = f"F={size[0]} B={size[1]} {dtype}"
            workers = measure(python, size, dtype, options.rounds, options.threads)
            ours = workers["mneme"]
            if ours.failure:
                raise SystemExit(f"mneme's own step failed: {ours.failure}")
            print(f"\n{where}, {options.threads} threads (d={WIDTH}, k={K})")
            print(f"{'':30}{'tokens/s':>10}{'ours over it':>14}{'peak GB':>9}")
            for name, worker in workers.items():
                title = PEERS[name][0] if name in PEERS else "mneme"
                if worker.failure:
                    print(f"{title:30}not measured: {worker.failure}")
                    results[f"{title}, {where}"] = {"not_measured": worker.failure}
                    continue
                rate = size[1] / statistics.median(worker.seconds)
                ratio = statistics.median(t / o for t, o in zip(worker.seconds, ours.seconds, strict=True))
                print(f"{title:30}{rate:10.0f}{ratio:14.2f}{worker.peak_gb:9.2f}", flush=True)
                results[f"{title}, {where}"] = {
                    "tokens_per_second": round(rate, 1),
                    "ours_over_it": round(ratio, 3),
                    "peak_gb": round(worker.peak_gb, 3),
                }
            for title, dtypes in PEERS.values():
                if dtype in dtypes:
                    found = results.setdefault(f"{title}, {where}", {"not_measured": absent})
                    floors[f"ours / {title}, {where}"] = floor(found.get("ours_over_it"), 1.0)
    print()
    print_result("peers", results, floors)


if __name__ == "__main__":
    main()
