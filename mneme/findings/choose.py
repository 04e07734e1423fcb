"""Which sets of changed latents are told as findings, in which order, and in which parts a large one is shown."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from mneme.effects.explained import Directions
from mneme.findings.grouping import THRESHOLD, TOGETHER, belonging, merged
from mneme.findings.sums import ChangeSums, explained_parts

LARGEST = 2000
"""Changed latents that are grouped, those that move most; the others stay single: G has the square of this."""

MOST = 20
"""Findings told."""

MOST_PARTS = 5
SINGLE = 0.01
"""Part of what all changed latents explain from which a latent that belongs to no set is a finding by itself."""


class Chosen(NamedTuple):
    """One finding, or a part of one. Members are places in Directions.latent."""

    finding: str
    parent: str | None
    members: np.ndarray
    """(K_S,): the finding's own."""
    also: np.ndarray
    """Members of other findings whose change is this one's as well; they count for nothing in its sizes."""


def most_moving(moved: Directions, energy: np.ndarray) -> Directions:
    """At most LARGEST latents, those with most of the predicted change. energy: (F,), mean of f^2 over tokens."""
    size = energy[moved.latent] * np.square(moved.vector).sum(1)
    kept = np.sort(np.argsort(-size, kind="stable")[:LARGEST])
    return Directions(moved.latent[kept], moved.vector[kept])


def choose(sums: ChangeSums, dictionary: np.ndarray) -> list[Chosen]:
    """The findings, the one that explains most first, each followed by its parts.

    A set of two or more latents, or a latent with a hundredth of what all explain. A finding that holds over half of
    the changed latents is shown split by firing as well. dictionary: (K, ...) what is known of the latents, for the
    ids: a finding has one id wherever the same latents of the same dictionary make it.
    """
    if not len(sums.along):
        return []
    home = merged(sums.products)
    parts = explained_parts(sums)
    fit = belonging(sums.products, home)
    value = np.bincount(home, weights=np.nan_to_num(parts))
    total, size = float(value.sum()), np.bincount(home)
    order = [int(s) for s in np.argsort(-value, kind="stable")]
    told = [s for s in order if size[s] > 1 or (total > 0 and value[s] >= SINGLE * total)]
    found: list[Chosen] = []
    for s in (told or order[:1])[:MOST]:
        members = np.flatnonzero(home == s)
        also = np.flatnonzero((home != s) & (fit[:, s] >= THRESHOLD)) if len(members) > 1 else members[:0]
        finding = identity(sums.moved.latent[members], dictionary[members])
        found.append(Chosen(finding, None, members, also))
        if 2 * len(members) > len(home) and len(members) > 2:
            found += [
                Chosen(identity(sums.moved.latent[part], dictionary[part]), finding, part, part[:0])
                for part in split_by_firing(sums, members)
            ]
    return found


def split_by_firing(sums: ChangeSums, members: np.ndarray) -> list[np.ndarray]:
    """Parts of a set of latents that fire together, of at least two each; the one that explains most first."""
    firing = sums.co_firing[np.ix_(members, members)]
    home = merged(firing, TOGETHER, least=2)
    value = np.bincount(home, weights=np.nan_to_num(explained_parts(sums)[members]))
    several = [int(s) for s in np.argsort(-value, kind="stable") if (home == s).sum() > 1]
    return [members[home == s] for s in several[:MOST_PARTS]] if len(several) > 1 else []


def identity(latent: np.ndarray, dictionary: np.ndarray) -> str:
    """'f-' and eight digits made of the latents' numbers and of what the dictionary holds of them."""
    text = np.ascontiguousarray(latent, dtype="<i8").tobytes()
    text += np.ascontiguousarray(dictionary, dtype="<f4").tobytes()
    return "f-" + hashlib.sha256(text).hexdigest()[:8]
