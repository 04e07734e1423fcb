"""The sums latent scaling needs of one batch, by (document, latent): two ways to them, tested against each other.

On a processor `mneme.attribution.fused` goes token by token. Elsewhere, since p_j . sum_t f_tj y_t =
sum_t f_tj (p_j . y_t), the tokens are added up first and the dot product with the decoders is taken once per
(document, latent): an embedding bag whose bags are those pairs, whose "vocabulary" is the batch's activations,
and whose weights are the codes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme.attribution.fused import TokenSums
from mneme.attribution.geometry import Geometry
from mneme.crosscoder.kernels import weighted_bags
from mneme.errors import ActivationError

_BAG_FLOATS = 8_000_000  # floats held at once by a block of bags: 32 MB in float32


class PairSums(NamedTuple):
    """Sums over one batch's tokens for each of its U (document, latent) pairs that fire; documents in order."""

    document: np.ndarray
    """(U,) int64."""
    latent: np.ndarray
    """(U,) int64."""
    fires: np.ndarray
    """(U,) int64: tokens of the document on which the latent fires."""
    power: np.ndarray
    """(U,) float64: sum f^2."""
    dots: np.ndarray
    """(U, 2 targets, 2 models m, 2 probes q) float64: sum f (p^q . y^m); y = activation, then residual e."""


@torch.no_grad()
def encode_pair_sums(
    crosscoder: Any, geometry: Geometry, x: Tensor, document: np.ndarray | Tensor | None
) -> tuple[PairSums, Any, TokenSums]:
    """Encode a raw batch (B, 2, d): its sums, its SparseCodes, and what its tokens come to.

    document: (B,) integers, one document's tokens contiguous; None means all are of document 0.
    Raises ActivationError for activations that are NaN, infinite or of another width.
    """
    width = geometry.decoder.shape[2]
    if x.ndim != 3 or x.shape[1] != 2 or x.shape[2] != width:
        raise ActivationError(
            f"activations are {tuple(x.shape)}, the crosscoder takes (tokens, 2, {width}):"
            " read them from the layer it was trained on"
        )
    x = x.to(geometry.decoder.device)
    x = x if x.dtype == torch.float64 else x.float()
    codes = crosscoder.encode_sparse(x)
    owner = np.zeros(len(x), np.int64) if document is None else np.asarray(document, dtype=np.int64)
    sums = fused_sums if x.device.type == "cpu" and x.dtype == geometry.decoder.dtype else bag_sums
    pairs, tokens = sums(geometry, x, codes, owner)
    # a sum over all of them tells, without a pass of its own; overflow does not, so look again
    if not np.isfinite(tokens.square).all() and not torch.isfinite(x).all():
        raise ActivationError(
            "activations hold NaN or infinity: harvest again with dtype float32 or bfloat16"
        )
    return pairs, codes, tokens


def fused_sums(geometry: Geometry, x: Tensor, codes: Any, document: np.ndarray) -> tuple[PairSums, TokenSums]:
    """x: (B, 2, d) of the decoder's type, in the processor's memory. Latents as they first fire."""
    value = codes.value.to(x.dtype).numpy()
    parts, tokens = geometry.fused.batch(
        x.numpy(), codes.row.numpy(), codes.latent.numpy(), value, document, torch.get_num_threads()
    )
    return PairSums(*parts), tokens


def bag_sums(geometry: Geometry, x: Tensor, codes: Any, document: np.ndarray) -> tuple[PairSums, TokenSums]:
    """x: (B, 2, d) of any type, on any device. Latents ascending."""
    B, _, d = x.shape
    F = geometry.n_latents
    row, latent, value = codes
    device = row.device
    y = x - geometry.bias.to(x)
    x_hat = [weighted_bags(latent, row, value.to(x), part.to(x), B) for part in geometry.decoder]
    e = y - torch.stack(x_hat, dim=1)
    whole = torch.as_tensor(document, device=device)
    found, group = torch.unique_consecutive(whole, return_inverse=True)
    ids = found.cpu().numpy()
    key = group[row] * F + latent
    order = torch.argsort(key, stable=True)
    pairs, counts = torch.unique_consecutive(key[order], return_counts=True)
    offsets = torch.zeros(len(pairs) + 1, dtype=torch.int64, device=device)
    torch.cumsum(counts, 0, out=offsets[1:])
    row, value = row[order], value[order]
    pair_latent = pairs % F

    table = torch.cat([y, e], dim=1).reshape(B, 4 * d)  # 2 targets * 2 models * d: what each bag adds up
    dots = torch.empty(len(pairs), 2, 2, 2, dtype=x.dtype, device=device)
    block = max(1, _BAG_FLOATS // (4 * d))
    for start in range(0, len(pairs), block):
        stop = min(start + block, len(pairs))
        first, last = int(offsets[start]), int(offsets[stop])
        sums = torch.nn.functional.embedding_bag(
            row[first:last],
            table,
            offsets[start : stop + 1] - first,
            mode="sum",
            per_sample_weights=value[first:last].to(x.dtype),
            include_last_offset=True,
        ).reshape(stop - start, 4, d)
        probes = geometry.decoder[:, pair_latent[start:stop]].to(x.dtype)  # (2, u, d)
        # (u, 4, d) @ (u, d, 2) -> (u, 4, 2)
        dots[start:stop] = torch.bmm(sums, probes.permute(1, 2, 0)).reshape(-1, 2, 2, 2)
    power = torch.zeros(len(pairs), dtype=torch.float64, device=device)
    bag = torch.repeat_interleave(torch.arange(len(pairs), device=device), counts)
    power.index_add_(0, bag, value.double().square())
    tokens = TokenSums(
        B,
        y.double().sum(0).cpu().numpy(),
        y.double().square().sum((0, 2)).cpu().numpy(),
        e.double().square().sum((0, 2)).cpu().numpy(),
    )
    parts = (ids[(pairs // F).cpu().numpy()], pair_latent.cpu().numpy(), counts.cpu().numpy())
    return PairSums(*parts, power.cpu().numpy(), dots.double().cpu().numpy()), tokens
