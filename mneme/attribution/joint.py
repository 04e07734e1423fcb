"""Latents that share the credit: groups of correlated latents, solved together.

Latent scaling judges each latent as if it were alone. When two latents fire together and point in related
directions, each one's beta holds part of the other's change. For such a group, and model m, the joint betas
solve the ridge problem

    (G + rho I) beta = b,   G_jk = (sum f_j f_k)(p_j . p_k),   b_j = sum f_j (p_j . y)

with y the activation once the whole group is taken out of the reconstruction, y = e + sum_{k in group} f_k
d_k^m, so that b_j = sum f_j (p_j . e) + sum_k (sum f_j f_k)(p_j . d_k^m). The variance inflation factor of
j, [G^-1]_jj G_jj, says how much of it the others can imitate. Where joint and marginal betas give other
verdicts, the latent's verdict is uncertain: the evidence does not say which of the group changed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mneme._util.arrays import divide
from mneme.attribution.coactivation import Together
from mneme.attribution.geometry import BASE, TUNED, Geometry
from mneme.attribution.scaling import ScalingSums

_PAIRS = 2**22  # looked at at once


def correlated_groups(
    together: Together, directions: np.ndarray, mean: np.ndarray, threshold: float, max_group: int
) -> np.ndarray:
    """(F,) group number of each latent, -1 for those in none.

    Two latents are linked where |firing correlation x cosine of the main probes| >= threshold; groups are the
    connected components. Components of more than `max_group` latents lose the weaker half of their links.
    together: of the pairs that may be linked (`related_pairs` at this threshold: a correlation is at most 1).
    directions: (F, d) unit main probes. mean: (F,) mean activation over all tokens.
    """
    F = len(mean)
    j, k, coupling = _links(together, directions, mean, threshold)
    while True:
        graph = sparse.coo_array((np.ones(len(j)), (j, k)), shape=(F, F))
        _, component = connected_components(graph, directed=False)
        size = np.bincount(component, minlength=F)
        crowded = size[component[j]] > max_group
        if not crowded.any():
            break
        keep = ~crowded | (coupling > np.median(coupling[crowded]))
        j, k, coupling = j[keep], k[keep], coupling[keep]
    numbers = np.full(F, -1)
    for number, c in enumerate(np.flatnonzero(size > 1)):
        numbers[component == c] = number
    return numbers


def _links(
    together: Together, directions: np.ndarray, mean: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linked latents j and k, and how strongly, a row a link."""
    pairs, n = together.pairs, max(together.n_tokens, 1)
    sd = np.sqrt(np.maximum(together.squares / n - mean**2, 0))
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for begin in range(0, len(pairs.other), _PAIRS):
        end = min(begin + _PAIRS, len(pairs.other))
        products, j, k = together.products[begin:end], pairs.first(begin, end), pairs.other[begin:end]
        fires = products > 0  # else an absence would be a link
        products, j, k = products[fires], j[fires], k[fires].astype(np.int64)
        correlation = divide(products / n - mean[j] * mean[k], sd[j] * sd[k])
        strong = np.abs(np.nan_to_num(correlation)) >= threshold  # cosine can only lower it
        j, k, correlation = j[strong], k[strong], correlation[strong]
        for start in range(0, len(j), 65536):
            part = slice(start, start + 65536)
            cosine = np.einsum("ud,ud->u", directions[j[part]], directions[k[part]])
            coupling = np.abs(correlation[part] * cosine)
            keep = coupling >= threshold
            found.append((j[part][keep], k[part][keep], coupling[keep]))
    j, k, coupling = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return j, k, coupling


def joint_betas(
    geometry: Geometry,
    sums: ScalingSums,
    together: Together,
    n_tokens: int,
    group: np.ndarray,
    ridge: float,
) -> pd.DataFrame:
    """A row a grouped latent: latent, correlated_group, beta_joint_base, beta_joint_tuned, vif.

    together: of `pairs_within` the groups; it may come from fewer than the n_tokens that `sums` come from, and is
    scaled up to them.
    """
    fired = together.matrix() * (n_tokens / max(together.n_tokens, 1))
    residual = sums.dots.reshape(-1, 2, 2, 2)[:, 1]  # (F, m, q): sum f (p^q . e^m)
    parts = []
    for number in range(group.max(initial=-1) + 1):
        members = np.flatnonzero(group == number)
        decoders = geometry.decoder[:, members].double().cpu().numpy()  # (2, g, d)
        probe = geometry.probe[members]
        p = decoders[probe, np.arange(len(members))]
        fires = fired[members][:, members].toarray()
        G = fires * (p @ p.T)
        rho = ridge * np.trace(G) / len(members)
        betas = []
        for m in (BASE, TUNED):
            b = residual[members, m, probe] + (fires * (p @ decoders[m].T)).sum(1)
            betas.append(np.linalg.solve(G + rho * np.eye(len(G)), b) if rho > 0 else np.full(len(G), np.nan))
        scale = np.sqrt(np.maximum(np.diag(G), 0))
        R = divide(G, np.outer(scale, scale))
        usable = np.isfinite(R).all()
        vif = np.diag(np.linalg.pinv(R)) if usable else np.full(len(G), np.nan)
        parts.append(
            pd.DataFrame(
                {
                    "latent": members,
                    "correlated_group": number,
                    "beta_joint_base": betas[0],
                    "beta_joint_tuned": betas[1],
                    "vif": np.maximum(vif, 1.0),
                }
            )
        )
    if parts:
        return pd.concat(parts, ignore_index=True)
    return pd.DataFrame(
        {"latent": np.zeros(0, np.int64), "correlated_group": np.zeros(0, np.int64)}
        | {name: np.zeros(0) for name in ("beta_joint_base", "beta_joint_tuned", "vif")}
    )


def flips(
    verdict: np.ndarray, log_ratio: np.ndarray, joint_log_ratio: np.ndarray, margin: float, reference: float
) -> np.ndarray:
    """(F,) bool: the joint solution contradicts the marginal verdict.

    A change contradicted: the joint change has the other sign or is within half the margin; "unchanged"
    contradicted: the joint change is larger than the margin. NaN contradicts nothing.
    """
    joint = joint_log_ratio - reference
    with np.errstate(invalid="ignore"):
        not_up = (verdict == "amplified") & (joint < margin / 2)
        not_down = (verdict == "suppressed") & (joint > -margin / 2)
        not_still = (verdict == "unchanged") & (np.abs(joint) > margin + np.abs(log_ratio - reference))
    found: np.ndarray = not_up | not_down | not_still
    return found
