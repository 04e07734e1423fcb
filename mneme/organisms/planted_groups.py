"""Planted groups of changed latents: codes and directions of which it is known what belongs together.

A group is one event, a burst in some documents, on which its members fire, and one direction, of which each member's
change has a part. The set is awkward on purpose: two groups share their events and differ in direction, two share a
direction and differ in their events; of the singles a quarter fires with a group and points elsewhere, a quarter points
with a group and fires elsewhere. Sizes, frequencies, strengths and norms vary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class GroupsConfig:
    """What is planted."""

    width: int = field(default=128, metadata={"doc": "d, of the changes."})
    n_groups: int = field(default=8, metadata={"doc": "Groups, at least 5."})
    n_singles: int = field(default=40, metadata={"doc": "Changed latents that belong to none."})
    sizes: tuple[int, int] = field(default=(2, 12), metadata={"doc": "Members of a group, evenly drawn."})
    cosine: tuple[float, float] = field(
        default=(0.55, 0.95), metadata={"doc": "Cosine of a member's change with its group's direction."}
    )
    together: float = field(default=0.6, metadata={"doc": "Chance that a member fires at its group's event."})
    overlap: float = field(
        default=0.0, metadata={"doc": "Chance that a member belongs to a second group as well."}
    )
    n_documents: int = field(default=200, metadata={"doc": "Documents."})
    document_length: int = field(default=64, metadata={"doc": "Tokens a document."})
    seed: int = 0


class PlantedGroups(NamedTuple):
    """K changed latents over N tokens."""

    codes: sparse.csr_array
    """(N, K) activations."""
    vectors: np.ndarray
    """(K, d)."""
    document: np.ndarray
    """(N,)."""
    groups: list[tuple[int, ...]]
    """K tuples: the groups of each; () of a single."""

    @property
    def home(self) -> np.ndarray:
        """(K,): the first group of each; singles have numbers of their own, above all groups'."""
        n = 1 + max((max(g) for g in self.groups if g), default=-1)
        return np.array([g[0] if g else n + i for i, g in enumerate(self.groups)])


def plant_groups(config: GroupsConfig | None = None) -> PlantedGroups:
    """Draw a planted set."""
    c = config or GroupsConfig()
    rng = np.random.default_rng(c.seed)
    n = c.n_documents * c.document_length

    def events() -> np.ndarray:
        frequency = np.exp(rng.uniform(np.log(0.004), np.log(0.06)))
        burst = rng.gamma(0.5, 2.0, c.n_documents)
        found: np.ndarray = rng.random(n) < np.minimum(frequency * burst, 0.9).repeat(c.document_length)
        return found

    centre = _unit(rng.normal(size=(c.n_groups, c.width)))
    where = [events() for _ in range(c.n_groups)]
    where[1], centre[3] = where[0], centre[2]
    vectors, fires, groups = [], [], []

    def add(mine: tuple[int, ...], towards: tuple[int, ...], at: np.ndarray) -> None:
        own = _unit(rng.normal(size=c.width))
        cosine = rng.uniform(*c.cosine)
        if towards:
            own = cosine * _unit(centre[list(towards)].sum(0)) + np.sqrt(1 - cosine**2) * own
        vectors.append(_unit(own) * np.exp(rng.normal(0, 0.5)))
        fires.append(np.where(at & (rng.random(n) < c.together), np.exp(rng.normal(0, 0.4, n)), 0))
        groups.append(mine)

    for g, size in enumerate(rng.integers(c.sizes[0], c.sizes[1] + 1, c.n_groups)):
        for _ in range(size):
            mine: tuple[int, ...] = (g,)
            if rng.random() < c.overlap:
                mine = (g, int(rng.choice([h for h in range(4, c.n_groups) if h != g])))
            add(mine, mine, np.any([where[h] for h in mine], axis=0))
    for s in range(c.n_singles):
        g = int(rng.integers(c.n_groups))
        add((), (g,) if s % 4 == 1 else (), where[g] if s % 4 == 0 else events())
    document = np.arange(c.n_documents).repeat(c.document_length)
    return PlantedGroups(sparse.csr_array(np.array(fires).T), np.array(vectors), document, groups)


def _unit(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return found
