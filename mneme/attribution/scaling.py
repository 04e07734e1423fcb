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

The sums come by (document, latent) from `mneme.attribution.pairs`: products in the activations' precision,
everything across batches in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
from torch import Tensor

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme.attribution.geometry import BASE, MODELS, TUNED, Geometry, make_geometry
from mneme.attribution.pairs import PairSums, encode_pair_sums
from mneme.attribution.scatter import add_rows
from mneme.crosscoder.protocols import SparseDictionary
from mneme.crosscoder.source import TensorSource, as_tensor
from mneme.harvest.protocols import Activations, Source

TARGETS = ("error", "reconstruction", "activation")


class ScalingSums:
    """Running float64 sums of F latents; `merge` adds another pass over other tokens."""

    def __init__(self, n_latents: int) -> None:
        self.dots = np.zeros((n_latents, 8))
        self.power = np.zeros(n_latents)
        self.n_active = np.zeros(n_latents, dtype=np.int64)

    def update(self, pairs: PairSums) -> None:
        """Add one batch."""
        add_rows(self.dots, pairs.latent, pairs.dots.reshape(-1, 8))
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
        activation = divide(sums[0], scale)
        own = divide(geometry.dots, np.where(self.power > 0, geometry.dots[[0, 1], [0, 1]], 0))
        error = divide(sums[1], scale) + own
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
        "nu_error": divide(betas["error"][BASE, TUNED], betas["error"][TUNED, TUNED]),
        "nu_reconstruction": divide(
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
    crosscoder: SparseDictionary,
    activations: Tensor | np.ndarray | Source | Iterable[Tensor | np.ndarray],
    documents: np.ndarray | Tensor | None = None,
    *,
    batch_size: int = 2048,
) -> pd.DataFrame:
    """Latent scaling of every latent in one pass: a row per latent, columns of `scaling_frame`.

    activations: raw residual-stream activations: a (N, 2, d) tensor or array, an ActivationCache, or an iterable of
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


def own_batches(
    activations: Tensor | np.ndarray | Source | Iterable[Tensor | np.ndarray],
    size: int,
    document: np.ndarray | None,
) -> tuple[int, Iterable[Tensor]]:
    """This rank's (<= size, 2, d) batches, in order, and the number of its first token; with one rank all.

    activations: a tensor, an array, an ActivationCache or, with one rank only, an iterable of batches.
    """
    if isinstance(activations, Tensor | np.ndarray):
        activations = as_tensor(activations)
    if distributed.world_size() > 1:
        cache = (
            TensorSource(activations) if isinstance(activations, Tensor) else cast(Activations, activations)
        )
        start, stop = distributed.my_rows(cache.n, document)
        return start, (cache.read(at, min(at + size, stop)) for at in range(start, stop, size))
    if isinstance(activations, Tensor):
        return 0, activations.split(size)
    return 0, activations.batches(size) if isinstance(activations, Source) else map(as_tensor, activations)
