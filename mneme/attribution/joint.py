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

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from mneme.attribution.geometry import BASE, TUNED, Geometry, divide
from mneme.attribution.scaling import ScalingSums


def coactivation(shards: Iterable[Any], n_latents: int, max_tokens: int) -> tuple[sparse.csr_array, int]:
    """(F, F) sparse sums of f_j f_k over the tokens both fire on, and the number of tokens read.

    shards: (first_token, SparseCodes, n_tokens), as CodeCache.shards() gives them; reads about `max_tokens`.
    """
    total = sparse.csr_array((n_latents, n_latents), dtype=np.float64)
    seen = 0
    for _, codes, n in shards:
        row, latent = codes.row.cpu().numpy(), codes.latent.cpu().numpy()
        for start in range(0, n, 65536):
            mine = (row >= start) & (row < start + 65536)
            block = sparse.csr_array(
                (codes.value.cpu().numpy()[mine].astype(np.float64), (row[mine] - start, latent[mine])),
                shape=(min(65536, n - start), n_latents),
            )
            total = total + block.T @ block
        seen += n
        if seen >= max_tokens:
            break
    return total.tocsr(), seen


def correlated_groups(
    geometry: Geometry,
    together: sparse.csr_array,
    mean: np.ndarray,
    n_tokens: int,
    threshold: float,
    max_group: int,
) -> np.ndarray:
    """(F,) group number of each latent, -1 for those in none.

    Two latents are linked where |firing correlation x cosine of the main probes| >= threshold; groups are the
    connected components. Components of more than `max_group` latents lose the weaker half of their links.
    mean: (F,) mean activation over all tokens. together: `coactivation`.
    """
    links = sparse.triu(together, k=1).tocoo()
    j, k = links.coords
    mean_square = together.diagonal() / max(n_tokens, 1)
    sd = np.sqrt(np.maximum(mean_square - mean**2, 0))
    correlation = divide(links.data / max(n_tokens, 1) - mean[j] * mean[k], sd[j] * sd[k])
    strong = np.abs(np.nan_to_num(correlation)) >= threshold  # cosine can only lower it
    j, k, correlation = j[strong], k[strong], correlation[strong]
    probes = _unit_probes(geometry)
    cosine = np.concatenate(
        [
            np.einsum("ud,ud->u", probes[j[i : i + 65536]], probes[k[i : i + 65536]])
            for i in range(0, len(j), 65536)
        ]
        or [np.zeros(0)]
    )
    coupling = np.abs(correlation * cosine)
    keep = coupling >= threshold
    j, k, coupling = j[keep], k[keep], coupling[keep]
    F = geometry.n_latents
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


def joint_betas(
    geometry: Geometry,
    sums: ScalingSums,
    together: sparse.csr_array,
    n_seen: int,
    n_tokens: int,
    group: np.ndarray,
    ridge: float,
) -> pd.DataFrame:
    """A row a grouped latent: latent, correlated_group, beta_joint_base, beta_joint_tuned, vif.

    `together` comes from n_seen of the n_tokens that `sums` come from, and is scaled up to them.
    """
    residual = sums.dots.reshape(-1, 2, 2, 2)[:, 1]  # (F, m, q): sum f (p^q . e^m)
    parts = []
    for number in range(group.max(initial=-1) + 1):
        members = np.flatnonzero(group == number)
        decoders = geometry.decoder[:, members].double().cpu().numpy()  # (2, g, d)
        probe = geometry.probe[members]
        p = decoders[probe, np.arange(len(members))]
        fires = together[members][:, members].toarray() * (n_tokens / max(n_seen, 1))
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
    return not_up | not_down | not_still


def _unit_probes(geometry: Geometry) -> np.ndarray:
    """(F, d) float32 unit main probes; zero where the decoder is zero."""
    which = np.arange(geometry.n_latents)
    chosen = np.where(
        (geometry.probe == TUNED)[:, None],
        geometry.decoder[TUNED].float().cpu().numpy(),
        geometry.decoder[BASE].float().cpu().numpy(),
    )
    norm = geometry.norms[geometry.probe, which][:, None]
    return np.divide(chosen, norm, out=np.zeros_like(chosen), where=norm > 0).astype(np.float32)
