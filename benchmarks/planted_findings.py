"""Are findings what was planted? Groups of changed latents of known members (docs/method.md, "Findings").

    python benchmarks/planted_findings.py [--sets 4] [--tokens 1000000] [--skip-training] [--compare]

Groups of 2 to 12 latents by themselves, with members of two groups, and as parts of one direction; then a pair with
four planted causes, read by a crosscoder that is trained on it. `--compare` marks other ways of grouping on the same
sets (docs/decisions/findings.md). Prints tables, then one line of JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from common import floor, peak_memory_gb, print_result
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import NMF, FastICA, SparsePCA
from sklearn.metrics import adjusted_rand_score

from mneme.attribution.config import AttributionConfig
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.stream import attribute
from mneme.crosscoder import CodeCache, CrosscoderConfig, train_crosscoder
from mneme.findings.choose import choose
from mneme.findings.find import change_sums
from mneme.findings.grouping import THRESHOLD, TOGETHER, belonging, gram, merged
from mneme.organisms.planted_causes import CausesConfig, PlantedCauses
from mneme.organisms.planted_groups import GroupsConfig, PlantedGroups, plant_groups

WORLDS = {
    "plain": GroupsConfig(),
    "weak": GroupsConfig(cosine=(0.35, 0.75)),
    "narrow, many": GroupsConfig(width=64, n_groups=16, n_singles=120),
    "seldom together": GroupsConfig(together=0.35),
    "wide, weak": GroupsConfig(width=576, cosine=(0.3, 0.7), together=0.5),
}
OVERLAPPING = {
    "some of two groups": GroupsConfig(overlap=0.15),
    "many of two groups": GroupsConfig(overlap=0.3),
    "weak": GroupsConfig(overlap=0.15, cosine=(0.4, 0.8)),
}
FIRST_SEED = 1000
"""Sets of lower seeds were used to choose method and thresholds."""


def products(planted: PlantedGroups) -> np.ndarray:
    return gram((planted.codes.T @ planted.codes).toarray(), planted.vectors)


def similarity(planted: PlantedGroups) -> np.ndarray:
    """Cosine of directions, 0 where they point apart, times cosine of firings."""
    inner = products(planted)
    length = np.sqrt(np.diag(inner))
    return np.clip(inner / np.outer(length, length), 0, 1)


def average_linkage(planted: PlantedGroups, threshold: float) -> np.ndarray:
    apart = squareform(1 - similarity(planted), checks=False)
    return fcluster(linkage(apart, "average"), 1 - threshold, "distance")


def by_density(planted: PlantedGroups) -> np.ndarray:
    found = HDBSCAN(metric="precomputed", min_cluster_size=2, min_samples=1, copy=True).fit(
        1 - similarity(planted)
    )
    return np.where(found.labels_ < 0, np.arange(len(found.labels_)) + len(found.labels_), found.labels_)


def by_louvain(planted: PlantedGroups, threshold: float) -> np.ndarray:
    import networkx  # comes with torch; only this comparison uses it

    weight = similarity(planted)
    weight[weight < threshold] = 0
    np.fill_diagonal(weight, 0)
    out = np.zeros(len(weight), dtype=int)
    for number, some in enumerate(
        networkx.community.louvain_communities(networkx.from_numpy_array(weight), seed=0)
    ):
        out[list(some)] = number
    return out


def by_components(planted: PlantedGroups, method: Any, n: int) -> np.ndarray:
    """Each latent to the component of D' that its change is most along; components are given their true number."""
    said = planted.codes @ planted.vectors
    said = said[np.flatnonzero(np.abs(said).sum(1))][:6000]
    model = method(n_components=n, random_state=0, max_iter=200)
    model.fit(np.concatenate([np.clip(said, 0, None), np.clip(-said, 0, None)], 1) if method is NMF else said)
    axes = model.components_
    unit = planted.vectors / np.linalg.norm(planted.vectors, axis=1, keepdims=True)
    if method is NMF:
        unit = np.concatenate([np.clip(unit, 0, None), np.clip(-unit, 0, None)], 1)
    along = unit @ (axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)).T
    along = along if method is NMF else np.abs(along)
    best = along.argmax(1)
    return np.where(along.max(1) >= 0.3, best, np.arange(len(unit)) + n)


def others() -> dict[str, Callable[[PlantedGroups], np.ndarray]]:
    """Each at the best of a few thresholds."""
    found: dict[str, Callable[[PlantedGroups], np.ndarray]] = {"HDBSCAN": by_density}
    for t in (0.05, 0.08, 0.12):
        found[f"average linkage, {t}"] = lambda p, t=t: average_linkage(p, t)
        found[f"Louvain, {t}"] = lambda p, t=t: by_louvain(p, t)
    for name, method in {"sparse PCA": SparsePCA, "ICA": FastICA, "NMF": NMF}.items():
        found[name] = lambda p, m=method: by_components(p, m, 8)
    return found


def pairs_f1(planted: PlantedGroups) -> float:
    """F1 of pairs of latents that share a group and share a finding."""
    inner = products(planted)
    home = merged(inner)
    belongs = belonging(inner, home) >= THRESHOLD
    belongs[:, np.bincount(home) < 2] = False
    belongs[np.arange(len(home)), home] = True
    n_groups = 1 + max(max(g) for g in planted.groups if g)
    planted_in = np.array([[h in g for h in range(n_groups)] for g in planted.groups])
    upper = np.triu_indices(len(home), 1)
    true, found = ((m.astype(int) @ m.T.astype(int) > 0)[upper] for m in (planted_in, belongs))
    return float(2 * (true & found).sum() / (true.sum() + found.sum()))


def parts_rand(config: GroupsConfig) -> float:
    """Events as parts of one direction: firings alone."""
    planted = plant_groups(replace(config, n_groups=5, n_singles=0))
    home = np.where(planted.home == 1, 0, planted.home)  # groups 0 and 1 have the same events
    firing = (planted.codes.T @ planted.codes).toarray()
    return float(adjusted_rand_score(home, merged(firing, TOGETHER, least=2)))


def read_causes(seed: int, tokens: int) -> dict[str, Any]:
    """A trained crosscoder on a pair with four causes: which finding shows each."""
    pair = PlantedCauses(CausesConfig(seed=seed))
    train, test = (MemoryCache(*pair.sample(n, seed=s)[:2]) for n, s in ((2000, 1), (1000, 2)))
    config = CrosscoderConfig(
        n_latents=256,
        k=6,
        batch_size=1024,
        tokens=tokens,
        learning_rate=1.5e-3,
        dead_feature_threshold=200_000,
    )
    crosscoder = train_crosscoder(train, config).eval()
    with tempfile.TemporaryDirectory() as folder:
        found = attribute(crosscoder, test, folder, AttributionConfig())
        sums = change_sums(test, CodeCache(folder), found.latents, crosscoder.raw_decoder())
        chosen = [each for each in choose(sums, sums.moved.vector) if each.parent is None]
    return pair.shown_by(sums, [each.members for each in chosen]) | {
        "changed": len(sums.moved.latent), "findings": len(chosen), "largest": max(len(c.members) for c in chosen),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="that the crosscoder is trained on")
    parser.add_argument("--causes", type=int, default=2, help="pairs with planted causes")
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    began = time.time()
    seeds = range(FIRST_SEED, FIRST_SEED + options.sets)
    ways = {"mneme": lambda p: merged(products(p))} | (others() if options.compare else {})
    rand: dict[str, dict[str, float]] = {way: {} for way in ways}
    for name, config in WORLDS.items():
        sets = [plant_groups(replace(config, seed=seed)) for seed in seeds]
        for way, group in ways.items():
            rand[way][name] = float(np.mean([adjusted_rand_score(p.home, group(p)) for p in sets]))
            print(f"{name}: {way}: adjusted Rand {rand[way][name]:.3f}", flush=True)
    overlap = {
        name: float(np.mean([pairs_f1(plant_groups(replace(config, seed=seed))) for seed in seeds]))
        for name, config in OVERLAPPING.items()
    }
    parts = float(np.mean([parts_rand(GroupsConfig(seed=seed)) for seed in seeds]))
    print("overlapping groups, F1 of pairs:", overlap, "parts, adjusted Rand:", parts, flush=True)
    causes = (
        []
        if options.skip_training
        else [read_causes(FIRST_SEED + seed, options.tokens) for seed in range(options.causes)]
    )
    for row in causes:
        print(row)
    shown = float(np.mean([row["shown"] for row in causes])) if causes else None
    results = {
        "adjusted_rand": rand, "overlapping_pairs_f1": overlap, "parts_adjusted_rand": parts, "causes": causes,
        "seconds": time.time() - began, "peak_memory_gb": peak_memory_gb(),
    }  # fmt: skip
    if shown is None:
        results["why_no_causes"] = "--skip-training"
    floors = {
        "groups_adjusted_rand": floor(float(np.mean(list(rand["mneme"].values()))), 0.9),
        "groups_adjusted_rand_worst_world": floor(min(rand["mneme"].values()), 0.9),
        "overlapping_pairs_f1": floor(float(np.mean(list(overlap.values()))), 0.85),
        "causes_with_a_finding": floor(shown, 1.0),
    }
    print_result("planted_findings", results, floors)


if __name__ == "__main__":
    main()
