"""What a training step holds in memory, from its sizes alone.

Letters: B tokens of this rank, D = 2d, F latents of this rank, k active latents per token.
"""

from __future__ import annotations

from mneme._util import distributed
from mneme._util.memory import fitting, gigabytes, usable_bytes
from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.kernels import encodes_in_bf16
from mneme.crosscoder.kmeans import points_at_once
from mneme.models.device import pick_device


def bytes_a_latent(width: int, bf16: bool) -> int:
    """Encoder and decoder in float32, their gradients, Adam's two means; both again in bfloat16."""
    return 2 * width * (2 * 4 * 4 + (4 if bf16 else 0)) + 8


def bytes_a_token(n_latents: int, width: int, config: CrosscoderConfig, bf16: bool) -> float:
    """Pre-activations and what is selected of them; x, its reconstruction, residual, gradient; the active pairs.

    The first step is the largest: most pairs are active.
    """
    item, k = (2 if bf16 else 4), config.k * config.k_start
    pair = 3 * (8 + 8 + 4)  # codes, sorted codes and their gradients
    of_latents: float = item
    if config.kernel == "dense":
        of_latents = 6 * 4
    elif config.variant == "topk":
        of_latents = 2 * item + 2 * 1  # selection values, two marks
    elif config.variant == "l1":  # half of them are active
        of_latents, k = item + 1 + pair / 2, 0
    return n_latents * of_latents + 2 * width * 4 * 4 + k * pair


def training_bytes(n_latents: int, batch: int, width: int, config: CrosscoderConfig, bf16: bool) -> float:
    """Of one step, or of the start where that needs more; AuxK, which needs more the more latents are dead, is not
    counted.
    """
    each = bytes_a_token(n_latents, width, config, bf16)
    step = n_latents * bytes_a_latent(width, bf16) + batch * each
    return max(step, start_bytes(n_latents, batch, width, bf16) if config.init == "kmeans" else 0)


def start_bytes(n_latents: int, batch: int, width: int, bf16: bool) -> float:
    """Of k-means: six (F, D) tensors (the drawn and random directions, centroids before and after a step, their sums
    and those sorted), the centroids again in bfloat16, a batch and its points, the cosines of some of them.
    """
    of_latents = n_latents * 2 * width * (6 * 4 + (2 if bf16 else 0))
    of_points = batch * (2 * width * 3 * 4 + 40)
    return of_latents + of_points + min(batch, points_at_once(n_latents)) * n_latents * (2 if bf16 else 4)


def training_advice(width: int, n_tokens: int, config: CrosscoderConfig) -> str:
    """One line: what this training (of n_tokens at hand) needs a process, what there is, and what would fit."""
    ranks, device = distributed.world_size(), pick_device("auto")
    shards = config.latent_shards if ranks > 1 else 1
    parts = ranks // shards
    latents, batch = config.latents_for(width) // shards, min(config.batch_size, n_tokens) // parts
    bf16 = encodes_in_bf16(config, device)
    usable = usable_bytes(device)
    a_latent, a_token = bytes_a_latent(width, bf16), bytes_a_token(0, width, config, bf16)
    both = bytes_a_token(1, width, config, bf16) - a_token  # of each (token, latent)
    fewer = fitting(usable - latents * a_latent, a_token + latents * both, batch) * parts
    smaller = fitting(usable - batch * a_token, a_latent + batch * both, latents) * shards
    fixes = [f"{name} to {n}" for name, n in (("batch_size", fewer), ("n_latents", smaller)) if n > 0]
    return (
        f"out of memory on {device}: {latents:,} latents of width {width:,} and {batch:,} tokens per step need about"
        f" {gigabytes(training_bytes(latents, batch, width, config, bf16))}, about {gigabytes(usable)} can be had:"
        f" lower crosscoder.{' or crosscoder.'.join(fixes) or 'n_latents'}, or start more processes (torchrun)"
    )
