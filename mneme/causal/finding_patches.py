"""A finding's change patched out of the tuned model, beside what it is held against.

D'_S = sum over its members of f_j v_j is what a finding S says that the tuned model differs by (mneme/findings), U_r
the r leading principal directions of D = x^t - x^b over the run's tokens, about 0:

    finding           x^t - D'_S
    pca               x^t - U_r U_r^T D, r the finding's dimensions: close to the most that a patch of this rank can do
    other findings    as far as D'_S at the same tokens, along another finding's main direction, one drawn a document
    random latents    as many latents that did not change, of like firing and size, their own changes where they fire
    random direction  as far as D'_S, one direction a document
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme.causal.measure import TUNED, Patch, Streams
from mneme.causal.patches import Dictionary, drawn_latents, only, random_directions, text_generators
from mneme.harvest.text import Text

SOURCES = ("finding", "pca", "other findings", "random latents", "random direction")


class FindingChange(NamedTuple):
    """What is patched of one finding."""

    finding: str
    latents: np.ndarray
    """(K,): members."""
    vectors: np.ndarray
    """(K, d): v_j, raw units."""
    dimensions: int
    main: np.ndarray
    """(d,): unit main direction."""
    like: np.ndarray
    """(K, n): unchanged latents like each member."""


def source_of(finding: str, source: str) -> str:
    """The name of a patch among a text's sums; PCA's are shared by findings of equal rank."""
    return f"{finding} {source}"


def pca_of(rank: int) -> str:
    return f"pca {rank}"


def of_findings(
    dictionary: Dictionary,
    text: Text,
    streams: Streams,
    findings: Sequence[FindingChange],
    principal: np.ndarray,
    seed: int,
) -> Iterator[Patch]:
    """Each finding undone, and its controls. principal: (r, d), at least as many as any finding has dimensions."""
    base, tuned = (stream.float().cpu() for stream in streams)
    codes = dictionary.codes(text, streams)
    n_latents, width = dictionary.change.shape
    described = text.described[..., None]
    for rank in sorted({each.dimensions for each in findings}):
        axes = torch.from_numpy(principal[:rank]).float()
        yield Patch(
            "undo", pca_of(rank), TUNED, tuned - torch.where(described, (tuned - base) @ axes.T @ axes, 0.0)
        )
    for number, each in enumerate(findings):
        vectors = torch.zeros(n_latents, width)
        vectors[torch.from_numpy(each.latents)] = torch.from_numpy(each.vectors).float()
        mine = torch.zeros(n_latents, dtype=torch.bool, device=codes.latent.device)
        mine[torch.from_numpy(each.latents).to(mine.device)] = True
        patch = dictionary.added(text, only(codes, mine[codes.latent]), vectors.to(codes.value.device))
        yield Patch("undo", source_of(each.finding, "finding"), TUNED, tuned - patch)
        length = patch.norm(dim=-1, keepdim=True)
        others = [other.main for other in findings if other.finding != each.finding]
        if others:
            along = _one_of(text, np.stack(others), seed, number)
            yield Patch("undo", source_of(each.finding, "other findings"), TUNED, tuned - length * along)
        if each.like.size:
            drawn = drawn_latents(text, each.like, n_latents, seed).to(codes.latent.device)
            window = text.described.nonzero()[:, 0].to(codes.row.device)
            kept = only(codes, drawn[window[codes.row], codes.latent])
            random = dictionary.added(text, kept, dictionary.change)
            yield Patch("undo", source_of(each.finding, "random latents"), TUNED, tuned - random)
        yield Patch(
            "undo",
            source_of(each.finding, "random direction"),
            TUNED,
            tuned - length * random_directions(text, patch, seed),
        )


def _one_of(text: Text, directions: np.ndarray, seed: int, number: int) -> Tensor:
    """(R, 1, d): for each document one of the directions."""
    rows = [directions[int(rng.integers(len(directions)))] for rng in text_generators(text, seed, number)]
    return torch.from_numpy(np.array(rows)).float()[:, None]
