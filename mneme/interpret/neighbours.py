"""The nearest latents of each latent: by what they write (decoders) and by when they fire.

decoder: cosine of the two decoders joined end to end, (d_j^b, d_j^t), in raw activation units.
firing: Pearson (phi) correlation of the 0/1 firing indicators over tokens, from the counts of joint firings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.selection import Codes, plain_shards

_CHUNK = 2**24  # similarities held at once: 64 MB
_MAX_PAIRS = 1.5e8  # of joint firings counted at most; above, an even sample of the tokens is used


def nearest_latents(
    decoders: torch.Tensor,
    codes: Codes,
    n_active: np.ndarray,
    *,
    n: int = 8,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """The rows of the run's `neighbours` table, for live latents only.

    `decoders` (2, F, d): raw. `n_active` (F,): firings of each latent; 0 is dead.
    """
    live = np.flatnonzero(n_active)
    n = min(n, len(live) - 1)
    if n < 1:
        return _no_rows()
    parts = []
    with progress.task("neighbours", total=2 * len(live), unit="latents") as task:
        directions = torch.cat([decoders[0, live], decoders[1, live]], dim=-1).float()
        directions = torch.nn.functional.normalize(directions, dim=-1)
        size = max(1, _CHUNK // len(live))
        for begin in range(0, len(live), size):
            mine = np.arange(begin, min(begin + size, len(live)))
            similarity = directions[begin : begin + size] @ directions.T
            similarity[torch.arange(len(mine)), torch.from_numpy(mine)] = -2  # not itself
            best = similarity.topk(n, dim=-1)
            parts.append(
                _rows("decoder", live[mine], live[best.indices.cpu().numpy()], best.values.cpu().numpy())
            )
            task.advance(len(mine))
        for rows in _firing_rows(codes, live, n_active, n):
            parts.append(rows)
            task.advance(rows.latent.nunique())
    return pd.concat(parts, ignore_index=True)


def nearest_by_firing(codes: Codes, n_active: np.ndarray, *, n: int = 8) -> pd.DataFrame:
    """The rows of `nearest_latents` of kind firing."""
    live = np.flatnonzero(n_active)
    n = min(n, len(live) - 1)
    return pd.concat(_firing_rows(codes, live, n_active, n), ignore_index=True) if n > 0 else _no_rows()


def _firing_rows(codes: Codes, live: np.ndarray, n_active: np.ndarray, n: int) -> Iterator[pd.DataFrame]:
    together, count, n_tokens = joint_firings(codes, live, n_active)
    size = max(1, _CHUNK // len(live))
    for begin in range(0, len(live), size):
        mine = np.arange(begin, min(begin + size, len(live)))
        joint = together[mine].toarray().astype(np.float32) / n_tokens
        rate = (count / n_tokens).astype(np.float32)
        deviation = np.sqrt(np.maximum(rate * (1 - rate), 1e-20))
        phi = (joint - rate[mine, None] * rate) / (deviation[mine, None] * deviation)
        phi[np.arange(len(mine)), mine] = -2
        best = torch.from_numpy(phi).topk(n, dim=-1)
        yield _rows("firing", live[mine], live[best.indices.numpy()], best.values.numpy())


def _no_rows() -> pd.DataFrame:
    columns = {"latent": np.int32, "kind": str, "rank": np.int32, "neighbour": np.int32, "similarity": float}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})


def joint_firings(codes: Codes, live: np.ndarray, n_active: np.ndarray) -> tuple[Any, np.ndarray, int]:
    """How often each two of the live latents fire together (L, L), each alone (L,), and over how many tokens.

    With very many firings, every s-th token is counted.
    """
    place = np.full(len(n_active), -1, dtype=np.int64)
    place[live] = np.arange(len(live))
    total = float(n_active.sum())
    together: Any = 0
    count = np.zeros(len(live), dtype=np.int64)
    n_tokens = seen = 0
    step = 1
    for first, row, latent, _, size in plain_shards(codes):
        if not seen:
            per_token = len(row) / max(size, 1)
            step = int(np.ceil(total * per_token / _MAX_PAIRS)) or 1
        seen += size
        used = (row + first) % step == 0
        n_tokens += len(range(-first % step, size, step))
        fires = sparse.csr_matrix(
            (np.ones(int(used.sum()), dtype=np.int32), (row[used], place[latent[used]])),
            shape=(size, len(live)),
        )
        together = together + fires.T @ fires
        count += np.asarray(fires.sum(axis=0)).ravel()
    return together, count, max(n_tokens, 1)


def _rows(kind: str, latent: np.ndarray, neighbour: np.ndarray, similarity: np.ndarray) -> pd.DataFrame:
    n = neighbour.shape[1]
    return pd.DataFrame(
        {
            "latent": np.repeat(latent, n).astype(np.int32),
            "kind": kind,
            "rank": np.tile(np.arange(n, dtype=np.int32), len(latent)),
            "neighbour": neighbour.ravel().astype(np.int32),
            "similarity": similarity.ravel().astype(np.float64),
        }
    )
