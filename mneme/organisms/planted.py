"""Planted pairs: activations of two imaginary models whose every difference is known.

Both models are made of the same n sparse features. Feature i fires on some tokens with strength a_ti and
writes a_ti v_i^m into model m; the tuned model's v_i is longer (amplified), shorter (suppressed), turned
(redirected), missing (base only), new (tuned only) or the same (unchanged). A method that reads such a pair
can be marked.

The set is meant to be as awkward as the real thing, and is fixed before any method is run on it: more
features than dimensions, frequencies over two decades, bursts (a feature is a topic of some documents),
groups whose members fire together and point in related directions (changed and unchanged ones mixed), noise
partly shared by the two models, unequal feature sizes, another mean and another overall scale in the tuned
model. A feature is changed if its size relative to the tuned model's overall scale changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mneme.attribution.held_activations import MemoryCache

SIZES = (1.1, 1.25, 1.5, 2.0, 4.0)
KINDS = ("unchanged", "amplified", "suppressed", "base_only", "tuned_only", "redirected")


@dataclass(frozen=True)
class PlantedConfig:
    """What is planted. The defaults are the set that `benchmarks/planted.py` reports."""

    width: int = field(default=64, metadata={"doc": "d, dimensions of each model."})
    n_features: int = field(default=192, metadata={"doc": "Features; more than the width."})
    resized_share: float = field(
        default=0.16, metadata={"doc": "Share amplified, and as many suppressed, spread evenly over SIZES."}
    )
    exclusive_share: float = field(
        default=0.06, metadata={"doc": "Share that only the base holds, and as many only the tuned model."}
    )
    redirected_share: float = field(
        default=0.06, metadata={"doc": "Share of the same size in both, in unrelated directions."}
    )
    rarest: float = field(default=0.0008, metadata={"doc": "Lowest frequency, a share of tokens."})
    commonest: float = field(default=0.08, metadata={"doc": "Highest; frequencies are log-uniform."})
    grouped_share: float = field(
        default=0.25, metadata={"doc": "Share of features in groups of 4 that fire together."}
    )
    together: float = field(
        default=0.6, metadata={"doc": "Chance that a group's member fires when the group does."}
    )
    group_cosine: float = field(default=0.3, metadata={"doc": "Cosine between directions of a group."})
    noise: float = field(
        default=0.5, metadata={"doc": "l2 norm of the noise; a feature's median contribution has norm 1."}
    )
    shared_noise: float = field(
        default=0.5, metadata={"doc": "Share of the noise's variance common to both models."}
    )
    tuned_scale: float = field(default=1.3, metadata={"doc": "The tuned model's overall scale."})
    offset: float = field(default=3.0, metadata={"doc": "l2 norm of each model's mean."})
    document_length: int = field(default=64, metadata={"doc": "Tokens a document."})
    seed: int = field(default=0, metadata={"doc": "Seed of the features (not of the tokens)."})

    def without_changes(self) -> PlantedConfig:
        """The null pair: all the same, with nothing changed."""
        return replace(self, resized_share=0.0, exclusive_share=0.0, redirected_share=0.0)


class PlantedBatch(NamedTuple):
    """Tokens of whole documents."""

    activations: Tensor
    """(N, 2, d) float32, raw."""
    document: np.ndarray
    """(N,) int64."""
    strength: Tensor
    """(N, n) float32: a_ti, 0 where the feature does not fire."""


class PlantedPair:
    """The features of a planted pair, and a source of tokens."""

    def __init__(self, config: PlantedConfig | None = None) -> None:
        self.config = c = config or PlantedConfig()
        rng = np.random.default_rng(c.seed)
        n = c.n_features
        kind, size = _kinds(c, rng)
        group = np.full(n, -1)
        members = rng.permutation(n)[: int(c.grouped_share * n) // 4 * 4]
        group[members] = np.repeat(np.arange(len(members) // 4), 4)
        frequency = np.exp(rng.uniform(np.log(c.rarest), np.log(c.commonest), n))
        for g in range(group.max() + 1):  # members of a group share a frequency
            frequency[group == g] = frequency[group == g].max()
        base = _directions(rng, n, c.width, group, c.group_cosine)
        turned = _unit(rng.normal(size=(n, c.width)))
        tuned = np.where((kind == "redirected")[:, None], turned, base)
        length = np.exp(rng.normal(0, 0.3, n))
        self.vectors = torch.tensor(
            np.stack(
                [
                    base * (length * (kind != "tuned_only"))[:, None],
                    tuned * (length * np.where(kind == "base_only", 0, size) * c.tuned_scale)[:, None],
                ]
            ),
            dtype=torch.float32,
        )
        """(2, n, d): v_i^m."""
        self.means = torch.tensor(_unit(rng.normal(size=(2, c.width))) * c.offset, dtype=torch.float32)
        log_ratio = np.log(size)
        log_ratio[kind == "base_only"], log_ratio[kind == "tuned_only"] = -np.inf, np.inf
        self.features = pd.DataFrame(
            {
                "feature": np.arange(n),
                "kind": kind,
                "size": np.maximum(size, 1 / size),
                "log_ratio": log_ratio,
                "frequency": frequency,
                "group": group,
            }
        )
        """A row a feature; log_ratio: ln of its size in tuned over base, without the overall scale."""

    def sample(self, n_documents: int, seed: int, first_document: int = 0) -> PlantedBatch:
        """Tokens of `n_documents` fresh documents."""
        c = self.config
        rng = np.random.default_rng([c.seed, seed])
        n, T = c.n_features, c.document_length
        frequency, group = self.features["frequency"].to_numpy(), self.features["group"].to_numpy()
        # groups fire as one with chance frequency / together, and then each member with chance `together`
        event = np.where(group >= 0, group + n, np.arange(n))  # the event that each feature waits for
        ids, where = np.unique(event, return_inverse=True)
        rate = np.zeros(len(ids))
        rate[where] = np.where(group >= 0, frequency / c.together, frequency)
        burst = rng.gamma(0.5, 2.0, (n_documents, len(ids)))
        chance = np.minimum(rate * burst, 0.9).repeat(T, axis=0)
        events = rng.random((n_documents * T, len(ids)), dtype=np.float32) < chance
        fires = events[:, where]
        fires &= (group < 0) | (rng.random(fires.shape, dtype=np.float32) < c.together)
        row, column = fires.nonzero()
        strength = torch.zeros(fires.shape)
        strength[row, column] = torch.from_numpy(np.exp(rng.normal(0, 0.4, len(row))).astype(np.float32))
        x = torch.einsum("tn,mnd->tmd", strength, self.vectors) + self.means
        draw = torch.from_numpy(rng.normal(size=(3, len(x), c.width)).astype(np.float32))
        shared, own = np.sqrt(c.shared_noise), np.sqrt(1 - c.shared_noise)
        noise = (shared * draw[0] + own * draw[1:]) * (c.noise / np.sqrt(c.width))
        x += noise.transpose(0, 1) * torch.tensor([1.0, c.tuned_scale])[:, None]
        document = first_document + np.repeat(np.arange(n_documents), T)
        return PlantedBatch(x, document, strength)

    def stream(self, n_documents: int, seed: int, at_once: int = 64) -> Iterator[PlantedBatch]:
        """The same, `at_once` documents at a time."""
        for start in range(0, n_documents, at_once):
            number = min(at_once, n_documents - start)
            yield self.sample(number, seed * 1_000_003 + start, first_document=start)


def planted_cache(pair: PlantedPair, n_documents: int, seed: int) -> MemoryCache:
    """Fresh tokens of a planted pair, as a cache."""
    batches = [(b.activations, b.document) for b in pair.stream(n_documents, seed)]
    return MemoryCache(torch.cat([x for x, _ in batches]), np.concatenate([d for _, d in batches]))


def _kinds(c: PlantedConfig, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) kind and (n,) size in tuned over base of each feature, in random order."""
    n = c.n_features
    kind, size = np.full(n, "unchanged", dtype="<U10"), np.ones(n)
    order, start = rng.permutation(n), 0
    shares = {
        "amplified": c.resized_share,
        "suppressed": c.resized_share,
        "base_only": c.exclusive_share,
        "tuned_only": c.exclusive_share,
        "redirected": c.redirected_share,
    }
    for name, share in shares.items():
        mine = order[start : start + round(share * n)]
        start += len(mine)
        kind[mine] = name
        if name in ("amplified", "suppressed"):
            factor = np.resize(SIZES, len(mine))
            size[mine] = factor if name == "amplified" else 1 / factor
    return kind, size


def _directions(rng: np.random.Generator, n: int, width: int, group: np.ndarray, cosine: float) -> np.ndarray:
    """(n, d) unit directions, those of a group with that mean cosine to each other."""
    own = _unit(rng.normal(size=(n, width)))
    centre = _unit(rng.normal(size=(group.max() + 1, width))) if group.max() >= 0 else own
    mixed = np.sqrt(cosine) * centre[group] + np.sqrt(1 - cosine) * own
    return _unit(np.where((group >= 0)[:, None], mixed, own))


def _unit(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found
