"""Memory and time of a large run, computed from sizes: nothing is run here (docs/scaling.md says what it means).

    python benchmarks/plan.py [--tokens 200e6] [--gpus 1 8 64]

The pair is two full 8B models of Llama 3's shape that share no layer. Rates of GPUs, links and storage are
assumed, those of processors measured (RATES): no GPU was at hand. FLOP and bytes are counted from the
algorithms as they are written.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

from common import print_result

from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.memory import training_bytes
from mneme.harvest import HarvestConfig, estimated_bytes

RATES = {
    # assumed, one H100 SXM of 80 GB
    "flops": 0.4 * 989e12,  # bf16 products, a second: 40% of the data sheet
    "memory": 0.8 * 3.35e12,  # bytes a second: 80% of the data sheet
    "links": {1: math.inf, 8: 350e9, 64: 300e9},  # bus bandwidth of an all-reduce, bytes a second
    "storage": 20e9,  # bytes a second that a shared file system gives all machines together
    # measured on one core of an AMD EPYC, files in the page cache, d = 4,096
    "read": 71_000,  # tokens a second of shuffled batches, of which a process reads its own share
    "write": 13_400,  # tokens a second of shards: safetensors, SHA-256, fsync
    "attribution": 39_000,  # tokens a second of the sums on the host: F = 131,072, 61 active latents a token
}


@dataclass(frozen=True)
class Pair:
    """Llama 3 8B."""

    width: int = 4096
    inner: int = 14336
    key_values: int = 1024
    layers: int = 32
    read_layers: int = 15  # up to layer 14's output
    vocabulary: int = 128_256
    window: int = 256

    def flop_a_token(self, layers: int) -> float:
        """One model's forward pass: two FLOP a weight, and attention over half a window on average."""
        weights = 2 * self.width**2 + 2 * self.width * self.key_values + 3 * self.width * self.inner
        return layers * (2 * weights + 2 * self.width * self.window)

    def parameters(self) -> float:
        weights = 2 * self.width**2 + 2 * self.width * self.key_values + 3 * self.width * self.inner
        return self.layers * weights + 2 * self.vocabulary * self.width

    def harvest_flop(self, measured: float) -> float:
        """Both models a token: to the layer, or to the logits on a share of the text."""
        whole = self.flop_a_token(self.layers) + 2 * self.width * self.vocabulary
        return 2 * ((1 - measured) * self.flop_a_token(self.read_layers) + measured * whole)


def step_seconds(pair: Pair, latents: int, k: int, batch: int, gpus: int) -> dict[str, float]:
    """One training step of `batch` tokens a GPU: where its time goes."""
    D, weights = 2 * pair.width, 2 * latents * 2 * pair.width  # encoder and decoder
    traffic = {
        "pre-activations": batch * latents * 2 * 5,  # written, scaled (read, written), compared, found
        "active rows": batch
        * k
        * D
        * 4
        * 4,  # decode, its gradient, the codes' gradient, the encoder's gradient
        "weights": weights
        * 4
        * 13,  # bf16 copy, norms, gradients written, their norm, clipping, Adam's seven passes
    }
    seconds = {name: n_bytes / RATES["memory"] for name, n_bytes in traffic.items()}
    seconds["encoder"] = batch * 2 * D * latents / RATES["flops"]
    seconds["all-reduce"] = 2 * (gpus - 1) / gpus * weights * 4 / RATES["links"][gpus]
    return seconds


def plan(pair: Pair, tokens: float, gpus: int, batch: int, behaviour: float) -> dict[str, float]:
    """Rows of the table; one process a GPU, and nothing overlaps that the code does not overlap."""
    latents, k = 32 * pair.width, 100
    config = CrosscoderConfig(latents=latents, k=k)
    cache = estimated_bytes(int(tokens), pair.width, HarvestConfig())
    stored = cache / RATES["storage"]
    harvest = tokens * (pair.harvest_flop(behaviour) / RATES["flops"] + 1 / RATES["write"]) / gpus
    step = sum(step_seconds(pair, latents, k, batch, gpus).values())
    reading = batch / RATES["read"]
    steps = tokens / (batch * gpus)
    encoder = 4 * pair.width * latents / RATES["flops"]
    attribution = tokens * (encoder + 1 / RATES["attribution"]) / gpus
    return {
        "activations on disk, GB": cache / 1e9,
        "harvest: memory of a GPU, GB": 4 * pair.parameters() / 1e9,
        "harvest, min": max(harvest, stored) / 60,
        "training: memory of a GPU, GB": training_bytes(latents, batch, pair.width, config, True) / 1e9,
        "training: tokens a step": batch * gpus,
        "training: steps": steps,
        "training: GPU's part of a step, ms": 1000 * step,
        "training: reading's part of a step, ms": 1000 * reading,
        "training, min": max(steps * (step + reading), stored) / 60,
        "attribution, min": max(attribution, stored) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=float, default=200e6)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64], choices=RATES["links"])
    parser.add_argument("--behaviour", type=float, default=0.02, help="share of the text it is measured on")
    options = parser.parse_args()
    pair, batches = Pair(), {1: 8192, 8: 4096, 64: 1024}
    print(f"{pair.parameters() / 1e9:.2f}B parameters a model; GFLOP a token, both models:")
    for share in (0.0, options.behaviour, 0.3):
        print(f"  behaviour on {share:4.0%}: {pair.harvest_flop(share) / 1e9:.1f}")
    plans = {n: plan(pair, options.tokens, n, batches[n], options.behaviour) for n in options.gpus}
    print(f"{'GPUs':42}" + "".join(f"{n:>12}" for n in options.gpus))
    for name in plans[options.gpus[0]]:
        print(f"{name:42}" + "".join(f"{found[name]:12,.0f}" for found in plans.values()))
    for n in options.gpus:
        parts = step_seconds(pair, 32 * pair.width, 100, batches[n], n)
        print(f"step on {n}: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in parts.items()))
    print_result("plan", {"assumed": True, **{str(n): found for n, found in plans.items()}}, {})


if __name__ == "__main__":
    main()
