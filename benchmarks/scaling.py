"""The attribution pass against encoding alone, and latent scaling against its published closed form.

    python benchmarks/scaling.py [--rounds 5] [--threads 2] [--parts encoding]

Made-up activations (bfloat16, in memory) and a random dictionary whose threshold lets k latents per token fire;
d = 576, k = 32, documents of 256 tokens that share a direction, batches of 2,048. All ways take turns in one process; a
ratio is the median over rounds of the ratios within a round.

Against encoding:

    encode      `Crosscoder.encode_sparse` on every batch, nothing else
    pass        `attribute` up to its sums: the same encoding, the sums of all twelve betas, document moments, firing
                statistics, fit, codes written to disk
    contexts    `find_contexts` on those codes, read from disk, where the next stage chooses them
    finalize    from the sums to verdicts, with the joint solution

Closed form. The code published with latent scaling (Minder et al., arXiv 2504.02922) calls for each target, for each
model, a function that encodes all of the data anew, densely, and adds up A = sum f y and C = sum f^2:

    beta_j = d_j . A_j / (C_j |d_j|^2)

Targets activation and reconstruction are one (B, d) array for all latents, a product y^T f. For the target error
each latent is taken out of the reconstruction: an (L, B, d) tensor, a row of products for each latent. `published`
below is written anew from that description, for one probe (the tuned decoder), L latents at a time; it is run
on two small numbers of latents, and the line through both gives what all F latents would take (a few minutes to
hours). `one product` is what it could be: d_j . f_j d_j put back afterwards, so that the error too is one product
for all latents. Both encode six times. Ours gives both probes of all latents. Betas of all three must agree.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import floor, forget_peak, peak_since_gb, print_result, resident_gb

from mneme._util.memory import give_back_freed_memory, keep_freed_memory
from mneme._util.progress import NULL_PROGRESS
from mneme.attribution import latent_scaling
from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.pass_sums import AttributionSums
from mneme.attribution.scaling import TARGETS
from mneme.attribution.stream import _read, finalize
from mneme.crosscoder import CodeCache, Crosscoder, CrosscoderConfig
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts

WIDTH, K, BATCH, DOCUMENT = 576, 32, 2048, 256
ENCODING = (4096, 8192, 18432)  # latents
TOKENS = 106_496  # of them; the bundled text has 108,051
CLOSED_FORM = ((8192, 4096), (18432, 2048))  # latents, tokens
PARTS = ("encoding", "closed_form")
FEW, MORE = 16, 144  # latents that the published form is run on


class Text(MemoryCache):
    """Activations with the tokens that contexts are cut from."""

    @property
    def n_documents(self) -> int:
        return int(self.document[-1]) + 1

    def document_tokens(self, document: int) -> np.ndarray:
        return np.full(int((self.document == document).sum()), 7, dtype=np.int32)


def make(F: int, n: int, seed: int = 0) -> tuple[Crosscoder, Text]:
    """A dictionary of F latents, K of which fire on the average of n tokens; some often, most seldom."""
    g = torch.Generator().manual_seed(seed)
    crosscoder = Crosscoder(CrosscoderConfig(n_latents=F, k=K), WIDTH)
    unit = torch.nn.functional.normalize(torch.randn(2, F, WIDTH, generator=g), dim=2)
    unit[1] = torch.nn.functional.normalize(unit[0] + 0.3 * unit[1], dim=1)
    crosscoder.W_dec.copy_(unit * (0.5 + torch.rand(2, F, 1, generator=g)))
    crosscoder.W_enc.copy_(unit.transpose(1, 2) * (0.5 + torch.rand(F, generator=g)))
    crosscoder.mean.zero_()
    crosscoder.scale.fill_(1)
    document = np.arange(n) // DOCUMENT
    topic = torch.randn(document[-1] + 1, 1, WIDTH, generator=g)[torch.from_numpy(document)]
    x = topic + torch.randn(n, 1, WIDTH, generator=g) + 0.3 * torch.randn(n, 2, WIDTH, generator=g)
    x = x.bfloat16()
    crosscoder.threshold.fill_(0)
    some = x[:: max(1, n // 512)][:512]
    selection = crosscoder.encode(some) * crosscoder.decoder_norms().sum(0)
    crosscoder.threshold.copy_(selection.flatten().topk(K * len(some)).values[-1])
    return crosscoder, Text(x, document)


def encode_all(crosscoder: Crosscoder, cache: Text) -> None:
    for x in cache.batches(BATCH):
        crosscoder.encode_sparse(x)


def run_pass(crosscoder: Crosscoder, cache: Text, folder: Path) -> AttributionSums:
    config = AttributionConfig(batch_size=BATCH)
    state = AttributionSums(make_geometry(crosscoder), config)
    _read(crosscoder, cache, folder, state, NULL_PROGRESS)
    return state


def published(
    crosscoder: Crosscoder, cache: Text, latents: torch.Tensor, *, each: bool = True
) -> dict[str, np.ndarray]:
    """Target -> (2 models, L) betas of `latents` (L,) on the tuned decoder's probe.

    each: the error is one (L, B, d) tensor, as published; else the latent is put back after one product.
    """
    decoder, bias = crosscoder.raw_decoder()[:, latents], crosscoder.raw_bias()
    probe = decoder[1]
    found = {}
    for target in TARGETS:
        betas = []
        for m in (0, 1):
            A = torch.zeros(len(latents), WIDTH)
            C = torch.zeros(len(latents))
            for x in cache.batches(BATCH):
                all_f = crosscoder.encode(x)
                x_hat = crosscoder.decode(all_f)[:, m] if target != "activation" else None
                f = all_f[:, latents]
                if target == "activation":
                    y = x[:, m].float() - bias[m]
                elif target == "reconstruction":
                    y = x_hat - bias[m]
                else:
                    y = x[:, m].float() - x_hat
                    if each:
                        y = y.repeat(len(latents), 1, 1) + f.T[:, :, None] * decoder[m, :, None]
                A += torch.bmm(f.T[:, None], y)[:, 0] if y.ndim == 3 else f.T @ y
                C += f.square().sum(0)
            B = (A * probe).sum(1)
            if target == "error" and not each:
                B += C * (decoder[m] * probe).sum(1)
            betas.append((B / (C * probe.square().sum(1))).numpy())
        found[target] = np.stack(betas)
    return found


def timed(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """(rounds,) seconds of each, in turn; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in seconds.items()}


def peak_mb(way: Callable[[], Any]) -> int | None:
    """Memory that `way` takes at its height beyond what is held before; None where the system doesn't tell."""
    give_back_freed_memory()
    before = resident_gb()
    forget_peak()
    way()
    peak = peak_since_gb()
    return None if peak is None else round(1000 * (peak - before))


def against_encoding(F: int, n: int, rounds: int, folder: Path) -> dict[str, Any]:
    crosscoder, cache = make(F, n)
    state = run_pass(crosscoder, cache, folder)
    config = InterpretConfig()
    ways: dict[str, Callable[[], Any]] = {
        "encode": lambda: encode_all(crosscoder, cache),
        "pass": lambda: run_pass(crosscoder, cache, folder),
        "contexts": lambda: find_contexts(CodeCache(folder), cache, F, config),
    }
    seconds = timed(ways, rounds)
    start = time.perf_counter()
    finalize(state, crosscoder, CodeCache(folder))
    concluding = time.perf_counter() - start
    encode = seconds["encode"]
    return {
        "tokens": n,
        "encode_tokens_per_second": n / statistics.median(encode),
        "pass": statistics.median(seconds["pass"] / encode),
        "contexts": statistics.median(seconds["contexts"] / encode),
        "pass_and_contexts": statistics.median((seconds["pass"] + seconds["contexts"]) / encode),
        "finalize": concluding / statistics.median(encode),
        **{f"{name}_adds_mb": peak_mb(way) for name, way in ways.items()},
    }


def against_closed_form(F: int, n: int, rounds: int) -> dict[str, Any]:
    crosscoder, cache = make(F, n, seed=1)
    every = torch.arange(F)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: latent_scaling(crosscoder, cache, batch_size=BATCH),
        "few": lambda: published(crosscoder, cache, every[:FEW]),
        "more": lambda: published(crosscoder, cache, every[:MORE]),
        "one product": lambda: published(crosscoder, cache, every, each=False),
    }
    mine = ways["ours"]()
    seconds = timed(ways, rounds)
    a_latent = (seconds["more"] - seconds["few"]) / (MORE - FEW)
    whole = seconds["more"] + a_latent * (F - MORE)
    return {
        "tokens": n,
        "published": statistics.median(whole / seconds["ours"]),
        "one_product": statistics.median(seconds["one product"] / seconds["ours"]),
        "largest_difference_published": difference(mine, ways["more"](), MORE),
        "largest_difference_one_product": difference(mine, ways["one product"](), F),
        "ours_adds_mb": peak_mb(ways["ours"]),
        f"published_adds_mb_at_{MORE}_latents": peak_mb(ways["more"]),
        "one_product_adds_mb": peak_mb(ways["one product"]),
    }


def difference(mine: Any, theirs: dict[str, np.ndarray], n: int) -> float:
    """The largest between betas of the first n latents, tuned probe."""
    return max(
        float(np.nanmax(np.abs(mine[f"beta_{target}_{model}_tuned"].to_numpy()[:n] - theirs[target][m])))
        for target in TARGETS
        for m, model in enumerate(("base", "tuned"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as `mneme run` does
    results: dict[str, Any] = {"encoding": {}, "closed_form": {}}
    floors: dict[str, dict[str, Any]] = {}
    print(
        f"{'over encoding':24}{'pass':>8}{'contexts':>10}{'both':>8}{'finalize':>10}   adds MB: pass, contexts"
    )
    with tempfile.TemporaryDirectory() as folder:
        for F in ENCODING if "encoding" in options.parts else ():
            row = against_encoding(F, TOKENS, options.rounds, Path(folder) / str(F))
            results["encoding"][str(F)] = row
            print(
                f"F = {F:6,}, N = {TOKENS:6,}{'':3}{row['pass']:8.2f}{row['contexts']:10.2f}"
                f"{row['pass_and_contexts']:8.2f}{row['finalize']:10.2f}"
                f"   {row['pass_adds_mb']}, {row['contexts_adds_mb']}",
                flush=True,
            )
            for name in ("pass", "pass_and_contexts"):
                value = row[name]
                floors[f"{name} over encoding, F={F}"] = {"value": value, "floor": 1.3, "met": value <= 1.3}
    print(f"\n{'times ours':24}{'published':>10}{'one product':>13}   largest difference of a beta")
    for F, n in CLOSED_FORM if "closed_form" in options.parts else ():
        row = against_closed_form(F, n, options.rounds)
        results["closed_form"][str(F)] = row
        print(
            f"F = {F:6,}, N = {n:6,}{'':3}{row['published']:10.0f}{row['one_product']:13.1f}"
            f"   {row['largest_difference_published']:.1e}, {row['largest_difference_one_product']:.1e}",
            flush=True,
        )
        floors[f"published closed form over ours, F={F}"] = floor(row["published"], 20)
    print()
    print_result("scaling", results, floors)


if __name__ == "__main__":
    main()
