"""Planted pairs in which several causes each move many features: every cause should come back as one finding.

A cause is a subject, on which its features fire, and a direction, along which the tuned model is displaced wherever one
of them fires: v_i^t = v_i^b + s_i u_c. That is what an edit of a layer does to all that a subject's text evokes. The
other features are the same in both models. Causes are of different strength and commonness, and two of them share
their subject.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mneme.findings.sums import ChangeSums, spectrum


@dataclass(frozen=True)
class CausesConfig:
    """What is planted."""

    width: int = field(default=64, metadata={"doc": "d, dimensions of each model."})
    n_features: int = field(default=128, metadata={"doc": "Features."})
    sizes: tuple[int, ...] = field(default=(12, 8, 5, 3), metadata={"doc": "Features of each cause."})
    strength: tuple[float, ...] = field(
        default=(2.5, 1.5, 1.5, 1.0), metadata={"doc": "s, of each cause; a feature's norm is about 1."}
    )
    together: float = field(default=0.4, metadata={"doc": "Chance that a feature fires at its subject."})
    noise: float = field(default=0.3, metadata={"doc": "l2 norm of the noise of each model."})
    document_length: int = field(default=64, metadata={"doc": "Tokens a document."})
    seed: int = 0


class PlantedCauses:
    """The features of a pair with causes, and a source of tokens."""

    def __init__(self, config: CausesConfig | None = None) -> None:
        self.config = c = config or CausesConfig()
        rng = np.random.default_rng(c.seed)
        self.cause = np.full(c.n_features, -1)
        self.cause[: sum(c.sizes)] = np.repeat(np.arange(len(c.sizes)), c.sizes)
        """(n,): the cause of each feature, -1 for none."""
        self.subject = np.where(self.cause == 1, 0, self.cause)  # the first two causes have one subject
        base = (
            _unit(rng.normal(size=(c.n_features, c.width)))
            * np.exp(rng.normal(0, 0.2, c.n_features))[:, None]
        )
        self.directions = _unit(rng.normal(size=(len(c.sizes), c.width)))
        """(causes, d): u_c."""
        size = np.asarray(c.strength)[self.cause] * rng.uniform(0.7, 1.3, c.n_features)
        moved = np.where((self.cause >= 0)[:, None], size[:, None] * self.directions[self.cause], 0)
        self.vectors = np.stack([base, base + moved])
        """(2, n, d)."""
        self.frequency = np.exp(rng.uniform(np.log(0.004), np.log(0.05), c.n_features))
        self.frequency_of_subject = np.exp(rng.uniform(np.log(0.02), np.log(0.06), len(c.sizes)))

    def sample(self, n_documents: int, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """(N, 2, d) float32 activations, (N,) documents and (N, n) strengths of fresh documents."""
        c = self.config
        rng = np.random.default_rng([c.seed, seed])

        def events(frequency: np.ndarray) -> np.ndarray:
            burst = rng.gamma(0.5, 2.0, (n_documents, len(frequency)))
            chance = np.minimum(frequency * burst, 0.9).repeat(c.document_length, axis=0)
            found: np.ndarray = rng.random(chance.shape) < chance
            return found

        subjects = events(self.frequency_of_subject)[:, self.subject]
        fires = np.where(
            self.subject >= 0, subjects & (rng.random(subjects.shape) < c.together), events(self.frequency)
        )
        strength = np.where(fires, np.exp(rng.normal(0, 0.3, fires.shape)), 0)
        x = np.einsum("tn,mnd->tmd", strength, self.vectors)
        x += rng.normal(size=x.shape) * (c.noise / np.sqrt(c.width))
        document = np.arange(n_documents).repeat(c.document_length)
        return torch.tensor(x, dtype=torch.float32), document, strength

    def shown_by(self, sums: ChangeSums, sets: list[np.ndarray], cosine: float = 0.7) -> dict[str, Any]:
        """Share of the causes that have a finding of their own: one whose main direction is the cause's.

        sets: places of each finding's members in `sums.moved`. `cosines`: of each cause with its finding.
        """
        main = np.stack([spectrum(sums, members)[1][0] for members in sets])
        along = np.abs(self.directions @ main.T)
        own = {int(s) for s in along.argmax(1)}
        return {
            "shown": float((along.max(1) >= cosine).mean())
            if len(own) == len(along)
            else len(own) / len(along),
            "cosines": [round(float(value), 3) for value in along.max(1)],
            "members": [len(sets[int(s)]) for s in along.argmax(1)],
        }


def _unit(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found
