"""Would another training of the dictionary have found the same? Matching latents across seeds.

Two dictionaries are matched one to one (Hungarian algorithm) by the smaller of encoder and decoder cosine;
a pair counts as found again when both cosines are at least 0.7 (arXiv 2501.16615: 30-42% of TopK latents
are). PW-MCC is the mean matched cosine, each latent weighted by how much it writes (arXiv 2505.20254).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

from mneme.crosscoder.module import Crosscoder

MATCH = 0.7
_DENSE_LIMIT = 6000


class LatentMatch(NamedTuple):
    """Latents of one dictionary matched with those of another."""

    partner: np.ndarray
    """(F,) int: the other dictionary's latent, -1 for none."""
    encoder_cosine: np.ndarray
    """(F,): of the matched pair; NaN for none."""
    decoder_cosine: np.ndarray
    """(F,): the same for decoders, both models' side by side."""

    @property
    def persists(self) -> np.ndarray:
        """(F,) bool: found again, both cosines >= MATCH."""
        with np.errstate(invalid="ignore"):
            return (self.encoder_cosine >= MATCH) & (self.decoder_cosine >= MATCH)


def match_latents(one: Any, other: Any, live: np.ndarray | None = None) -> LatentMatch:
    """Match the latents of two crosscoders of the same width, to maximise the sum of min(encoder, decoder)
    cosine.

    one, other: crosscoders with W_enc (2, d, F) and W_dec (2, F, d). live: (F,) of `one`; others stay
    unmatched. Above 6,000 latents only the candidates of each latent's 16 nearest are considered (sparse
    matching).
    """
    encoder = [_flat(c.W_enc.detach().transpose(1, 2)) for c in (one, other)]
    decoder = [_flat(c.W_dec.detach()) for c in (one, other)]
    F = len(encoder[0])
    rows = np.arange(F) if live is None else np.flatnonzero(live)
    partner = np.full(F, -1)
    if len(rows) and len(encoder[1]):
        if max(F, len(encoder[1])) <= _DENSE_LIMIT:
            score = torch.minimum(encoder[0][rows] @ encoder[1].T, decoder[0][rows] @ decoder[1].T)
            i, k = linear_sum_assignment(score.numpy(), maximize=True)
        else:
            i, k = _sparse_match(encoder, decoder, rows)
        partner[rows[i]] = k
    cosines = []
    for unit in (encoder, decoder):
        cosine = np.full(F, np.nan)
        at = np.flatnonzero(partner >= 0)
        cosine[at] = (unit[0][at] * unit[1][partner[at]]).sum(1).numpy()
        cosines.append(cosine)
    return LatentMatch(partner, *cosines)


def _sparse_match(
    encoder: list[Tensor], decoder: list[Tensor], rows: np.ndarray, nearest: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-weight matching among each row's nearest candidates; rows left without one are dropped."""
    parts = []
    for start in range(0, len(rows), 2048):
        mine = rows[start : start + 2048]
        score = torch.minimum(encoder[0][mine] @ encoder[1].T, decoder[0][mine] @ decoder[1].T)
        value, column = score.topk(min(nearest, score.shape[1]), dim=1)
        row = start + np.repeat(np.arange(len(mine)), value.shape[1])
        parts.append((row, column.flatten().numpy(), value.flatten().numpy()))
    i, k, weight = (np.concatenate([part[c] for part in parts]) for c in range(3))
    # every row also gets a column of its own, at a price no real pair has, so that a full matching exists
    n, m = len(rows), len(encoder[1])
    cost = np.concatenate([2.0 - weight, np.full(n, 4.0)])
    table = sparse.coo_array(
        (cost, (np.concatenate([i, np.arange(n)]), np.concatenate([k, m + np.arange(n)]))), shape=(n, m + n)
    )
    i, k = min_weight_full_bipartite_matching(table.tocsr())
    return i[k < m], k[k < m]


def _flat(weights: Tensor) -> Tensor:
    """(2, F, d) -> (F, 2 d) unit rows, float32; zero rows stay zero."""
    rows = weights.permute(1, 0, 2).reshape(weights.shape[1], -1).float().cpu()
    return torch.nn.functional.normalize(rows, dim=1)


def pw_mcc(match: LatentMatch, weight: np.ndarray) -> float:
    """Weighted mean decoder cosine of the matched latents; weight (F,): mean activation x decoder norm,
    say."""
    known = np.isfinite(match.decoder_cosine) & np.isfinite(weight)
    total = weight[known].sum()
    return float((match.decoder_cosine[known] * weight[known]).sum() / total) if total > 0 else float("nan")


def stability(
    crosscoder: Crosscoder, retrained: Sequence[Crosscoder], live: np.ndarray | None = None
) -> np.ndarray:
    """(F,): share of retrained dictionaries that find each latent again; NaN without any."""
    if not retrained:
        return np.full(crosscoder.W_dec.shape[1], np.nan)
    found: np.ndarray = np.mean(
        [match_latents(crosscoder, other, live).persists for other in retrained], axis=0
    )
    return found


def verdict_persistence(
    verdict: np.ndarray, other_verdict: np.ndarray, match: LatentMatch
) -> dict[str, float]:
    """Verdict -> share of its latents whose match in the other dictionary persists and has the same
    verdict."""
    partner = np.maximum(match.partner, 0)
    same = match.persists & (other_verdict[partner] == verdict)
    return {str(word): float(same[verdict == word].mean()) for word in np.unique(verdict) if word != "dead"}
