"""The sums latent scaling needs of one batch, by (document, latent): two ways to them, tested against each other.

On a processor `mneme.attribution.fused_sums` goes token by token. Elsewhere the dot products of all active pairs are
taken at once, p_j . y_t for both models' y, both targets and both probes, and added up by (document, latent), each f_tj
times.

A read-out dictionary (mneme/crosscoder/read_out.py) gives each model activations of its own. Both models are weighed
with one probe, f of the model m0 it was trained on: beta^m = sum_t f_t (p . y_t^m) / (sum_t f_t^2 |p|^2), with y^m what
model m holds of the latent, x^m - x_hat^m + f^m d: 1 in m0, r in a model that has f^m = r f^m0, 0 in one that stopped.
In a model equal to m0 it is 1 as well. What the other model does on tokens where m0 has nothing isn't asked: the
dictionary of the other model asks that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme._util.errors import ActivationError
from mneme.attribution.fused_sums import TokenSums
from mneme.attribution.geometry import BASE, TUNED, Geometry
from mneme.crosscoder.codes import SparseCodes, values_at
from mneme.crosscoder.kernels import pair_dots, weighted_bags
from mneme.crosscoder.protocols import ModelEncoder, SparseEncoder


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
    """(U, 2 targets, 2 models m, 2 probes q) float64: sum f (p^q . y^m); y = activation, then residual e.

    Of a read-out dictionary e + (f^m - f) d stands for e, so that y_error is e + f d there as well.
    """


@torch.no_grad()
def encode_pair_sums(
    crosscoder: SparseEncoder, geometry: Geometry, x: Tensor, document: np.ndarray | Tensor | None
) -> tuple[PairSums, SparseCodes, TokenSums]:
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
    each = None
    if isinstance(crosscoder, ModelEncoder) and crosscoder.read_model is not None:
        each = crosscoder.encode_models(x)
        codes = each[crosscoder.read_model]
    else:
        codes = crosscoder.encode_sparse(x)
    owner = np.zeros(len(x), np.int64) if document is None else np.asarray(document, dtype=np.int64)
    if each is None and x.device.type == "cpu" and x.dtype == geometry.decoder.dtype:
        pairs, tokens = fused_sums(geometry, x, codes, owner)
    else:
        pairs, tokens = bag_sums(geometry, x, codes, owner, each)
    # a sum over all of them tells, without a pass of its own; overflow does not, so look again
    if not np.isfinite(tokens.square).all() and not torch.isfinite(x).all():
        raise ActivationError(
            "activations hold NaN or infinity: harvest again with dtype float32 or bfloat16"
        )
    return pairs, codes, tokens


def fused_sums(
    geometry: Geometry, x: Tensor, codes: SparseCodes, document: np.ndarray
) -> tuple[PairSums, TokenSums]:
    """x: (B, 2, d) of the decoder's type, in the processor's memory. Latents as they first fire."""
    value = codes.value.to(x.dtype).numpy()
    parts, tokens = geometry.fused.batch(
        x.numpy(), codes.row.numpy(), codes.latent.numpy(), value, document, torch.get_num_threads()
    )
    return PairSums(*parts), tokens


def bag_sums(
    geometry: Geometry,
    x: Tensor,
    codes: SparseCodes,
    document: np.ndarray,
    each: tuple[SparseCodes, SparseCodes] | None = None,
) -> tuple[PairSums, TokenSums]:
    """x: (B, 2, d) of any type, on any device; each: a read-out dictionary's codes of the models. Latents ascending."""
    B = len(x)
    F = geometry.n_latents
    row, latent, value = codes
    device = row.device
    y = x - geometry.bias.to(x)
    x_hat = [
        weighted_bags(own.latent, own.row, own.value.to(x), part.to(x), B)
        for own, part in zip(each or (codes, codes), geometry.decoder, strict=True)
    ]
    e = y - torch.stack(x_hat, dim=1)
    whole = torch.as_tensor(document, device=device)
    found, group = torch.unique_consecutive(whole, return_inverse=True)
    ids = found.cpu().numpy()
    key = group[row] * F + latent
    order = torch.argsort(key, stable=True)
    pairs, counts = torch.unique_consecutive(key[order], return_counts=True)
    bag = torch.repeat_interleave(torch.arange(len(pairs), device=device), counts)
    f = value.to(x.dtype)
    products = [
        pair_dots(target[:, m], probe.to(x.dtype), row, latent)
        for target in (y, e)
        for m in (BASE, TUNED)
        for probe in geometry.decoder
    ]
    if each is not None:
        dots = torch.as_tensor(geometry.dots, dtype=x.dtype, device=device)
        for number, (m, q) in enumerate(((m, q) for m in (BASE, TUNED) for q in (BASE, TUNED)), start=4):
            products[number] += (values_at(codes, each[m], F) - value).to(x) * dots[m, q, latent]
    # of every active pair its eight products and f: what each (document, latent) adds up, f times each
    table = torch.stack([*products, f], dim=1)
    sums = weighted_bags(order, bag, f[order], table, len(pairs)).double().cpu().numpy()
    tokens = TokenSums(
        B,
        y.double().sum(0).cpu().numpy(),
        y.double().square().sum((0, 2)).cpu().numpy(),
        e.double().square().sum((0, 2)).cpu().numpy(),
    )
    parts = (ids[(pairs // F).cpu().numpy()], (pairs % F).cpu().numpy(), counts.cpu().numpy())
    return PairSums(*parts, sums[:, 8], sums[:, :8].reshape(-1, 2, 2, 2)), tokens
