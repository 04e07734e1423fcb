"""One trainer in one process, told when to take a step: what benchmarks/peers.py starts for every row of its table.

    python benchmarks/peers/worker.py TRAINER F B WIDTH K DTYPE THREADS

Reads a line, takes one whole training step (forward, backward, clipping, optimizer, the trainer's own
bookkeeping), writes a line of JSON: {"seconds", "peak_gb"}. The first line it writes says that it is ready, and its
memory before the trainer was made. Imports a package only in its own function: it runs in both environments.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch

Step = Callable[[], object]


def activations(batch: int, width: int) -> torch.Tensor:
    """(B, 2d): two models that are nearly alike, the same numbers for every trainer."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(batch, width, generator=generator)
    return torch.cat([base, base + 0.1 * torch.randn(batch, width, generator=generator)], dim=1)


def autocast(dtype: str) -> Any:
    """How packages use bfloat16: float32 weights, products in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def mneme(o: SimpleNamespace, x: torch.Tensor) -> Step:
    """Our crosscoder's training as `train_crosscoder` runs it, reading its batch included."""
    from mneme.crosscoder import CrosscoderConfig
    from mneme.crosscoder.source import TensorSource
    from mneme.crosscoder.trainer import Trainer

    config = CrosscoderConfig(
        n_latents=o.latents,
        k=o.k,
        k_start=1.0,
        batch_size=o.batch,
        tokens=o.batch * 1000,
        encoder_dtype=o.dtype,
        seed=0,
    )
    steps = Trainer(TensorSource(x.unflatten(1, (2, -1))), config, None).steps()
    return lambda: next(steps)


def dictionary_learning(o: SimpleNamespace, x: torch.Tensor) -> Step:
    """BatchTopKTrainer.update, as its trainSAE calls it; on CPUs that never turns autocast on, so this does."""
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer

    trainer = BatchTopKTrainer(
        steps=1000,
        activation_dim=2 * o.width,
        dict_size=o.latents,
        k=o.k,
        layer=0,
        lm_name="",
        warmup_steps=10,
        seed=0,
        device="cpu",
    )
    numbers = iter(range(1, 10**6))  # step 0 also takes the geometric median

    def step() -> None:
        with autocast(o.dtype):
            trainer.update(next(numbers), x)

    return step


def sae_lens(o: SimpleNamespace, x: torch.Tensor, sparse: bool = False) -> Step:
    """SAETrainer.step on its BatchTopK training SAE."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = BatchTopKTrainingSAEConfig(
        d_in=2 * o.width, d_sae=o.latents, k=o.k, device="cpu", use_sparse_activations=sparse
    )
    settings = SAETrainerConfig(
        total_training_samples=o.batch * 1000,
        train_batch_size_samples=o.batch,
        lr_end=3e-5,
        autocast=o.dtype == "bfloat16",
    )
    trainer = SAETrainer(settings, BatchTopKTrainingSAE(config), data_provider=iter(()))

    def step() -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    return step


def sae_lens_sparse(o: SimpleNamespace, x: torch.Tensor) -> Step:
    """The same with its sparse activations, which it recommends for float32 only."""
    return sae_lens(o, x, sparse=True)


def sparsify(o: SimpleNamespace, x: torch.Tensor, adam: bool = False) -> Step:
    """SparseCoder (TopK: the package has no BatchTopK) with its default optimizer, as its trainer's loop does."""
    from sparsify import SparseCoder, SparseCoderConfig
    from sparsify.sign_sgd import SignSGD

    coder = SparseCoder(2 * o.width, SparseCoderConfig(num_latents=o.latents, k=o.k))
    optimizer = (torch.optim.Adam if adam else SignSGD)(coder.parameters(), lr=1e-4)

    def step() -> None:
        coder.set_decoder_norm_to_unit_norm()
        with autocast(o.dtype):
            coder(x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()

    return step


def sparsify_adam(o: SimpleNamespace, x: torch.Tensor) -> Step:
    """The same with Adam, another of its choices."""
    return sparsify(o, x, adam=True)


_ALL = (mneme, dictionary_learning, sae_lens, sae_lens_sparse, sparsify, sparsify_adam)
TRAINERS = {trainer.__name__: trainer for trainer in _ALL}


def peak_gb() -> float:
    """This process's highest resident memory so far, on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    name, *sizes = sys.argv[1:]
    latents, batch, width, k = map(int, sizes[:4])
    o = SimpleNamespace(latents=latents, batch=batch, width=width, k=k, dtype=sizes[4])
    torch.set_num_threads(int(sizes[5]))
    torch.manual_seed(0)
    replies, sys.stdout = sys.stdout, sys.stderr  # what packages print must not get into the replies
    step = TRAINERS[name](o, activations(batch, width))

    def reply(**values: float) -> None:
        print(json.dumps(values), file=replies, flush=True)

    reply(ready_gb=peak_gb())
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        reply(seconds=time.perf_counter() - start, peak_gb=peak_gb())


if __name__ == "__main__":
    main()
