"""The streams that are put in place of the models' own: one latent's change, many latents' changes, and controls.

In raw units, for a token on which latent j fires with f_j, and Delta_j = d_j^t - d_j^b:

    undo      x^t - f_j Delta_j       in the tuned model
    do        x^b + f_j Delta_j       in the base
    ablate    x^m - f_j d_j^m         in either

A stream of several latents has the sum over them. Controls: *other latents*, as far at the same tokens but along the
decoder of another latent (of like firing and size, unchanged, another for each window); *random latents*, as many
latents that did not change, of like firing and size, patched where they fire; *random direction*, one for each
document, as far as the latents' whole patch; *dictionary*, the difference of the two reconstructions, all latents and
biases; *whole*, the other model's own stream: all that a patch of this layer can do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mneme.causal.measure import BASE, MODELS, TUNED, Patch, Streams
from mneme.crosscoder.codes import SparseCodes
from mneme.crosscoder.kernels import sparse_decode
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.text import Text

_LIKE = 10
"""Latents among which a control is drawn."""


class Dictionary:
    """A crosscoder's directions in raw units, and what of them a text fires."""

    def __init__(self, crosscoder: Crosscoder) -> None:
        self.crosscoder = crosscoder
        self.decoder: Tensor = crosscoder.raw_decoder().detach().float()  # (2, F, d)
        self.change = self.decoder[TUNED] - self.decoder[BASE]
        bias = crosscoder.raw_bias().detach().float()
        self.bias_change: Tensor = bias[TUNED] - bias[BASE]

    def codes(self, text: Text, streams: Streams) -> SparseCodes:
        """Active pairs; rows count the described tokens in row order."""
        described = text.described.to(streams.base.device)
        x = torch.stack([streams.base[described], streams.tuned[described]], dim=1).float()
        found = self.crosscoder.encode_sparse(x)
        return SparseCodes(found.row, found.latent, found.value.float())

    def activation(self, text: Text, codes: SparseCodes, latent: int) -> Tensor:
        """(R, T): one latent's f, 0 where it does not fire."""
        mine = codes.latent == latent
        out = torch.zeros(int(text.described.sum()))
        out[codes.row[mine].cpu()] = codes.value[mine].cpu()
        return placed(text, out[:, None])[..., 0]

    def added(self, text: Text, codes: SparseCodes, vectors: Tensor) -> Tensor:
        """(R, T, d): sum over latents of f_j v_j; vectors (F, d)."""
        n = int(text.described.sum())
        return placed(text, sparse_decode(codes, vectors, n).cpu())


def placed(text: Text, values: Tensor) -> Tensor:
    """Values (n, C) of the described tokens at their places, (R, T, C), 0 elsewhere."""
    out = torch.zeros(*text.described.shape, values.shape[1])
    out[text.described] = values
    return out


def of_latent(
    dictionary: Dictionary,
    text: Text,
    streams: Streams,
    latent: int,
    others: np.ndarray,
    seed: int,
) -> Iterator[Patch]:
    """One latent undone, done and ablated, and the controls at the same tokens. `others`: latents like it."""
    base, tuned = (stream.float().cpu() for stream in streams)
    f = dictionary.activation(text, dictionary.codes(text, streams), latent)[..., None]  # (R, T, 1)
    change, own = dictionary.change[latent].cpu(), dictionary.decoder[:, latent].cpu()
    patch = f * change
    directions = _directions(dictionary, others, text, latent, seed)  # (R, d)
    # A suppressed latent's change points against its decoder, and so does its control's.
    longer = own[int(own[TUNED].norm() >= own[BASE].norm())]
    sign = 1.0 if float(change @ longer) >= 0 else -1.0
    elsewhere = f * (sign * change.norm()) * directions[:, None]
    here = f > 0
    yield Patch("undo", "latent", TUNED, tuned - patch)
    yield Patch("undo", "other latents", TUNED, tuned - elsewhere)
    yield Patch("undo", "whole", TUNED, torch.where(here, base, tuned))
    yield Patch("do", "latent", BASE, base + patch)
    yield Patch("do", "other latents", BASE, base + elsewhere)
    yield Patch("do", "whole", BASE, torch.where(here, tuned, base))
    for model, stream in ((BASE, base), (TUNED, tuned)):
        yield Patch(f"ablate {MODELS[model]}", "latent", model, stream - f * own[model])


def of_many(
    dictionary: Dictionary,
    text: Text,
    streams: Streams,
    latents: np.ndarray,
    like: np.ndarray,
    seed: int,
) -> Iterator[Patch]:
    """Many latents' changes at once, and the controls. `like`: (len(latents), n) latents like each."""
    base, tuned = (stream.float().cpu() for stream in streams)
    codes = dictionary.codes(text, streams)
    chosen = torch.zeros(len(dictionary.change), dtype=torch.bool, device=codes.latent.device)
    chosen[torch.from_numpy(latents).to(chosen.device)] = True
    patch = dictionary.added(text, only(codes, chosen[codes.latent]), dictionary.change)
    everything = dictionary.added(text, codes, dictionary.change)
    described = text.described[..., None]
    everything = torch.where(described, everything + dictionary.bias_change.cpu(), everything)
    yield Patch("undo", "latents", TUNED, tuned - patch)
    if like.size:
        drawn = drawn_latents(text, like, len(chosen), seed).to(codes.latent.device)  # (R, F)
        window = text.described.nonzero()[:, 0].to(codes.row.device)
        random = dictionary.added(
            text, only(codes, drawn[window[codes.row], codes.latent]), dictionary.change
        )
        yield Patch("undo", "random latents", TUNED, tuned - random)
    yield Patch(
        "undo",
        "random direction",
        TUNED,
        tuned - patch.norm(dim=-1, keepdim=True) * random_directions(text, patch, seed),
    )
    yield Patch("undo", "dictionary", TUNED, tuned - everything)
    yield Patch("undo", "whole", TUNED, streams.base)
    yield Patch("do", "latents", BASE, base + patch)
    yield Patch("do", "whole", BASE, streams.tuned)


def latents_like(latents: pd.DataFrame, chosen: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """(len(chosen), n <= 10): for each chosen latent the live, unchanged ones nearest to it in firing rate and size.

    Size is mean activation x the norm of the longer decoder; both on log scales. `latents`: the run's table, by
    number; chosen, changed: numbers. n is 0 where no latent is left.
    """
    norm = np.fmax(latents["norm_base"].to_numpy(float), latents["norm_tuned"].to_numpy(float))
    size = latents["mean_activation"].to_numpy(float) * norm
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log(np.stack([latents["firing_rate"].to_numpy(float), size], axis=1))
    usable = np.isfinite(place).all(1) & (latents["verdict"].to_numpy() != "dead")
    usable[changed] = usable[chosen] = False
    pool = np.flatnonzero(usable)
    distance = np.abs(place[chosen][:, None] - place[pool][None]).sum(-1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    return pool[np.argsort(distance, axis=1, kind="stable")[:, :_LIKE]]


def only(codes: SparseCodes, kept: Tensor) -> SparseCodes:
    """The chosen pairs."""
    return SparseCodes(*(part[kept] for part in codes))


def text_generators(text: Text, seed: int, number: int) -> Iterator[np.random.Generator]:
    """One a window, the same for every window of a document, whatever it is batched with."""
    for document in text.documents:
        yield np.random.default_rng([seed, number, int(document)])


def _directions(dictionary: Dictionary, others: np.ndarray, text: Text, latent: int, seed: int) -> Tensor:
    """(R, d) unit decoders of other latents, drawn anew for each document; 0 where there are none."""
    width = dictionary.change.shape[1]
    if not len(others):
        return torch.zeros(len(text.documents), width)
    drawn = torch.tensor([int(rng.choice(others)) for rng in text_generators(text, seed, latent)])
    both = dictionary.decoder[:, drawn.to(dictionary.decoder.device)].cpu()  # (2, R, d)
    norms = both.norm(dim=-1)
    found = torch.where((norms[TUNED] >= norms[BASE])[:, None], both[TUNED], both[BASE])
    out: Tensor = found / found.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return out


def drawn_latents(text: Text, like: np.ndarray, n_latents: int, seed: int) -> Tensor:
    """(R, F) bool: for each document a set of latents, for each row of `like` one that is not in it yet."""
    out = torch.zeros(len(text.documents), n_latents, dtype=torch.bool)
    for row, rng in zip(out, text_generators(text, seed, n_latents), strict=True):
        for choices in like:
            free = [j for j in rng.permutation(choices) if not row[j]]
            if free:
                row[free[0]] = True
    return out


def random_directions(text: Text, like: Tensor, seed: int) -> Tensor:
    """(R, 1, d): a unit direction for each document."""
    width = like.shape[-1]
    rows = [rng.standard_normal(width) for rng in text_generators(text, seed, -1 % 2**32)]
    found = torch.from_numpy(np.array(rows)).float()
    out: Tensor = (found / found.norm(dim=-1, keepdim=True))[:, None]
    return out
