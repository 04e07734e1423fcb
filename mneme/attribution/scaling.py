"""Latent scaling: the least-squares weight each model gives to each latent's direction.

For latent j with activations f_j, probe direction p_j and model m (Minder et al. 2025, arXiv 2504.02922):

    beta_j^m = argmin_beta  sum_t | y_t^m - beta f_tj p_j |^2  =  sum_t f_tj (p_j . y_t^m) / (C_j |p_j|^2)
    C_j = sum_t f_tj^2

over all tokens t; only those where j fires contribute. Three targets y, all in raw activation units and all
measured from the crosscoder's decoder bias b^m (what it writes when nothing fires):

    activation      y = x - b              what the model holds
    reconstruction  y = x_hat - b          what the crosscoder says it holds
    error           y = x - x_hat + f_j d_j    what is left when latent j is taken out of x_hat: the main one

Because y_error = y_activation - y_reconstruction + f_j d_j, its beta follows from the other two:
beta_error = beta_activation - beta_reconstruction + (d_j . p_j) / |p_j|^2. The sums kept here are those of
`activation` and of the residual e = x - x_hat; the two other targets are derived.

Since p_j . sum_t f_tj y_t = sum_t f_tj (p_j . y_t), the tokens are added up first and the dot product with
the decoders is taken once per (document, latent), not once per (token, latent): an embedding bag whose bags
are those pairs, whose "vocabulary" is the batch's activations, and whose weights are the codes.
Sums within one document's batch are in the activations' precision, everything across them in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mneme import distributed
from mneme.attribution.geometry import BASE, MODELS, TUNED, Geometry, _divide, make_geometry
from mneme.crosscoder.source import TensorSource
from mneme.errors import ActivationError

TARGETS = ("error", "reconstruction", "activation")
_BAG_FLOATS = 8_000_000  # floats held at once by a block of bags: 32 MB in float32


class PairSums(NamedTuple):
    """Sums over one batch's tokens for each of its U (document, latent) pairs that fire, in that order."""

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


def pair_sums(
    geometry: Geometry, x: Tensor, x_hat: Tensor, codes: Any, document: np.ndarray | Tensor | None = None
) -> PairSums:
    """One batch's sums.

    x, x_hat: (B, 2, d) raw activations and their reconstruction. codes: SparseCodes of the same B tokens.
    document: (B,) integers, one document's tokens contiguous; None means all are of document 0.
    """
    B, _, d = x.shape
    row, latent, value = codes
    device = row.device
    group = torch.zeros(B, dtype=torch.int64, device=device)
    ids = np.zeros(1, dtype=np.int64)
    if document is not None:
        whole = torch.as_tensor(document, dtype=torch.int64, device=device)
        found, group, _ = torch.unique_consecutive(whole, return_inverse=True, return_counts=True)
        ids = found.cpu().numpy()
    key = group[row] * geometry.n_latents + latent
    order = torch.argsort(key, stable=True)
    pairs, counts = torch.unique_consecutive(key[order], return_counts=True)
    offsets = torch.zeros(len(pairs) + 1, dtype=torch.int64, device=device)
    torch.cumsum(counts, 0, out=offsets[1:])
    row, value = row[order], value[order].to(x.dtype)
    pair_latent = pairs % geometry.n_latents

    # (B, 2 targets * 2 models * d): what each bag adds up
    table = torch.cat([x - geometry.bias.to(x), x - x_hat], dim=1).reshape(B, 4 * d)
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
            per_sample_weights=value[first:last],
            include_last_offset=True,
        ).reshape(stop - start, 4, d)
        probes = geometry.decoder[:, pair_latent[start:stop]].to(x.dtype)  # (2, u, d)
        # (u, 4, d) @ (u, d, 2) -> (u, 4, 2)
        dots[start:stop] = torch.bmm(sums, probes.permute(1, 2, 0)).reshape(-1, 2, 2, 2)
    power = torch.zeros(len(pairs), dtype=torch.float64, device=device)
    bag = torch.repeat_interleave(torch.arange(len(pairs), device=device), counts)
    power.index_add_(0, bag, value.double().square())
    return PairSums(
        ids[(pairs // geometry.n_latents).cpu().numpy()],
        pair_latent.cpu().numpy(),
        counts.cpu().numpy(),
        power.cpu().numpy(),
        dots.double().cpu().numpy(),
    )


class ScalingSums:
    """Running float64 sums of F latents; `merge` adds another pass over other tokens."""

    def __init__(self, n_latents: int) -> None:
        self.dots = np.zeros((n_latents, 8))
        self.power = np.zeros(n_latents)
        self.n_active = np.zeros(n_latents, dtype=np.int64)

    def update(self, pairs: PairSums) -> None:
        """Add one batch."""
        np.add.at(self.dots, pairs.latent, pairs.dots.reshape(-1, 8))
        np.add.at(self.power, pairs.latent, pairs.power)
        np.add.at(self.n_active, pairs.latent, pairs.fires)

    def merge(self, other: ScalingSums) -> None:
        """Add the sums of another pass, over other tokens."""
        self.dots += other.dots
        self.power += other.power
        self.n_active += other.n_active

    def over_ranks(self) -> None:
        """Add up what every rank's tokens gave. Collective."""
        distributed.add_up(self.dots, self.power, self.n_active)

    def betas(self, geometry: Geometry) -> dict[str, np.ndarray]:
        """Target -> (2 models m, 2 probes q, F) float64; NaN where the latent never fires or p_j is zero."""
        sums = self.dots.reshape(-1, 2, 2, 2).transpose(1, 2, 3, 0)
        scale = self.power * geometry.dots[[0, 1], [0, 1]]  # (2 q, F): C |p|^2
        activation = _divide(sums[0], scale)
        own = _divide(geometry.dots, np.where(self.power > 0, geometry.dots[[0, 1], [0, 1]], 0))
        error = _divide(sums[1], scale) + own
        return {"error": error, "reconstruction": activation - error + own, "activation": activation}


def scaling_frame(geometry: Geometry, sums: ScalingSums) -> pd.DataFrame:
    """A row a latent: norms, delta_norm, decoder_cosine, probe, betas, nus, n_active.

    beta_{model} is of the error target on the main probe; beta_{target}_{model}_{probe} are all twelve.
    nu_error and nu_reconstruction are beta_base / beta_tuned on the tuned probe. NaN is undefined.
    """
    betas = sums.betas(geometry)
    F = geometry.n_latents
    which = np.arange(F)
    columns: dict[str, Any] = {
        "latent": which,
        "norm_base": geometry.norms[BASE],
        "norm_tuned": geometry.norms[TUNED],
        "delta_norm": geometry.delta_norm,
        "decoder_cosine": geometry.cosine,
        "probe": np.asarray(MODELS)[geometry.probe],
        "beta_base": betas["error"][BASE, geometry.probe, which],
        "beta_tuned": betas["error"][TUNED, geometry.probe, which],
        "nu_error": _divide(betas["error"][BASE, TUNED], betas["error"][TUNED, TUNED]),
        "nu_reconstruction": _divide(
            betas["reconstruction"][BASE, TUNED], betas["reconstruction"][TUNED, TUNED]
        ),
        "n_active": sums.n_active,
    }
    for target in TARGETS:
        for m, model in enumerate(MODELS):
            for q, probe in enumerate(MODELS):
                columns[f"beta_{target}_{model}_{probe}"] = betas[target][m, q]
    return pd.DataFrame(columns)


def latent_scaling(
    crosscoder: Any,
    activations: Tensor | Iterable[Tensor] | Any,
    documents: np.ndarray | Tensor | None = None,
    *,
    batch_size: int = 2048,
) -> pd.DataFrame:
    """Latent scaling of every latent in one pass: a row a latent, columns of `scaling_frame`.

    activations: raw residual-stream activations: a (N, 2, d) tensor, an ActivationCache, or an iterable of
    (B, 2, d); models ordered base, tuned. documents: (N,) document of each token, one document's tokens
    contiguous, to add the number of documents a latent fires in (`n_documents`).

    With several ranks all call this with the same tensor or cache; each reads documents of its own, and all get
    the whole's frame.

    Raises ActivationError when an activation is NaN or infinite, or the width is not the crosscoder's.
    """
    geometry = make_geometry(crosscoder)
    sums = ScalingSums(geometry.n_latents)
    seen = np.zeros(geometry.n_latents, dtype=np.int64)
    last = np.full(geometry.n_latents, -1, dtype=np.int64)
    whole = None if documents is None else np.asarray(documents)
    start, batches = own_batches(activations, batch_size, whole)
    for x in batches:
        check_activations(x, geometry.decoder.shape[2])
        owner = None if whole is None else whole[start : start + len(x)]
        pairs = encode_pair_sums(crosscoder, geometry, x, owner)[0]
        sums.update(pairs)
        new = pairs.document != last[pairs.latent]
        np.add.at(seen, pairs.latent[new], 1)
        last[pairs.latent] = pairs.document
        start += len(x)
    sums.over_ranks()
    distributed.add_up(seen)
    frame = scaling_frame(geometry, sums)
    if documents is not None:
        frame.insert(list(frame.columns).index("n_active") + 1, "n_documents", seen)
    return frame


@torch.no_grad()
def encode_pair_sums(
    crosscoder: Any, geometry: Geometry, x: Tensor, document: np.ndarray | Tensor | None
) -> tuple[PairSums, Any, Tensor]:
    """Encode a raw batch (B, 2, d): its sums, its SparseCodes and its reconstruction (B, 2, d)."""
    x = x.to(geometry.decoder.device)
    x = x if x.dtype == torch.float64 else x.float()
    codes = crosscoder.encode_sparse(x)
    x_hat = crosscoder.decode_sparse(codes, len(x)).to(x.dtype)
    return pair_sums(geometry, x, x_hat, codes, document), codes, x_hat


def own_batches(
    activations: Tensor | Iterable[Tensor] | Any, size: int, document: np.ndarray | None
) -> tuple[int, Iterable[Tensor]]:
    """This rank's (<= size, 2, d) batches, in order, and the number of its first token; with one rank all.

    activations: a tensor, an ActivationCache or, with one rank only, an iterable of batches.
    """
    if distributed.world_size() > 1:
        cache: Any = TensorSource(activations) if isinstance(activations, Tensor) else activations
        start, stop = distributed.my_rows(cache.n, document)
        return start, (cache.read(at, min(at + size, stop)) for at in range(start, stop, size))
    if isinstance(activations, Tensor):
        return 0, activations.split(size)
    return 0, activations.batches(size) if hasattr(activations, "batches") else activations


def check_activations(x: Tensor, width: int) -> None:
    """Raises ActivationError unless x is (B, 2, width) and finite."""
    if x.ndim != 3 or x.shape[1] != 2 or x.shape[2] != width:
        raise ActivationError(
            f"activations are {tuple(x.shape)}, the crosscoder takes (tokens, 2, {width}):"
            " read them from the layer it was trained on"
        )
    if not torch.isfinite(x).all():
        raise ActivationError(
            "activations hold NaN or infinity: harvest again with dtype float32 or bfloat16"
        )
