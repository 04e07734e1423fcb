"""Memory and time of a large run, computed from sizes and measured rates (docs/scaling.md says what it means).

    python benchmarks/plan.py [--tokens 200e6] [--gpus 1 8 64]

The pair is two full 8B models of Llama 3's shape that share no layer. Rates of one GPU were measured
(training_gpu.py, large_gpu.py, on an H200), links between GPUs and a shared file system are assumed. FLOP and bytes
are counted from the algorithms as they are written.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from common import print_result

from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.training_memory import training_bytes
from mneme.harvest import HarvestConfig, estimated_bytes

RATES = {
    # measured on an H200
    "forward": 466e12,  # FLOP a second of both models' passes to the layer, bfloat16: the bare hook of large_gpu.py
    "harvest": 18_950,  # tokens per second of the harvest to the layer, copies to the host and shards on disk included
    "encoder": 730e12,  # FLOP a second of the encoder's product, bfloat16, at B = 32,768
    "rows": 5.5e12,  # bytes per second of gathered rows: some come from the cache
    "memory": 4.2e12,  # bytes per second, read and written: a copy
    "rest": 1.1,  # a whole step over what is counted of it
    "pass": 13_100,  # tokens per second of attribution, 100 active latents of 131,072: its sums are the host's
    # measured on one core of an AMD EPYC, files in the page cache, d = 4,096
    "read": 71_000,  # tokens per second of shuffled batches, of which a process reads its own share
    # assumed
    "links": {1: 350e9, 8: 350e9, 64: 300e9},  # bus bandwidth of an all-reduce, bytes per second
    "storage": 20e9,  # bytes per second that a shared file system gives all machines together
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
    rows = batch * k * D * 2 * 4  # decode, codes' gradient, decoder's gradient, encoder's gradient, bfloat16
    # bfloat16 copies (4 + 2), norms (2), gradients written (4), their norm (4), Adam (7 x 4)
    counted = {
        "encoder": batch * 2 * D * latents / RATES["encoder"],
        "active rows": rows / RATES["rows"],
        "pre-activations": batch * latents * 2 * 2.3 / RATES["memory"],  # written, counted, some read again
        "weights": weights * 44 / RATES["memory"],
    }
    seconds = {name: RATES["rest"] * value for name, value in counted.items()}
    seconds["all-reduce"] = 2 * (gpus - 1) / gpus * weights * 4 / RATES["links"][gpus]
    return seconds


def plan(pair: Pair, tokens: float, gpus: int, batch: int, behaviour: float) -> dict[str, float]:
    """Rows of the table; one process a GPU, and nothing overlaps that the code does not overlap."""
    latents, k = 32 * pair.width, 100
    config = CrosscoderConfig(n_latents=latents, k=k)
    cache = estimated_bytes(int(tokens), pair.width, HarvestConfig())
    stored = cache / RATES["storage"]
    predicted = (pair.harvest_flop(behaviour) - pair.harvest_flop(0)) / RATES["forward"]
    harvest = tokens * (1 / RATES["harvest"] + predicted) / gpus
    step = sum(step_seconds(pair, latents, k, batch, gpus).values())
    reading = batch / RATES["read"]
    steps = tokens / (batch * gpus)
    return {
        "activations on disk, GB": cache / 1e9,
        "harvest: memory of a GPU, GB": 4 * pair.parameters() / 1e9,
        "harvest, min": max(harvest, stored) / 60,
        "training: memory of a GPU, GB": training_bytes(latents, batch, pair.width, config, True) / 1e9,
        "training: tokens per step": batch * gpus,
        "training: steps": steps,
        "training: GPU's part of a step, ms": 1000 * step,
        "training: reading's part of a step, ms": 1000 * reading,
        "training, min": max(steps * (step + reading), stored) / 60,
        "attribution, min": max(tokens / RATES["pass"] / gpus, stored) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=float, default=200e6)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64], choices=RATES["links"])
    parser.add_argument("--behaviour", type=float, default=0.02, help="share of the text it is measured on")
    options = parser.parse_args()
    pair, batches = Pair(), {1: 32_768, 8: 8192, 64: 1024}
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
    print_result("plan", {"rates": RATES, **{str(n): found for n, found in plans.items()}}, {})


if __name__ == "__main__":
    main()
