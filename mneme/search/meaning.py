"""Meaning: labels near a query in the sentence encoder's space."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mneme.search.paths import folder
from mneme.store.run import Run

if TYPE_CHECKING:
    from mneme.interpret.encoder import SentenceEncoder

NEAR = 0.3
"""Cosine from which a label counts as found; unrelated sentences of MiniLM lie around 0.1."""
_ENCODER_LOCK = threading.Lock()


def has_vectors(run: Run) -> bool:
    """Whether labels can be searched by meaning."""
    return (folder(run) / "meaning.npz").is_file()


def find_meaning(run: Run, text: str, *, limit: int = 1000) -> list[int]:
    """Latents whose labels are nearest to the text in meaning, the nearest first; none below NEAR.

    The encoder is loaded at the first call of the process. Raises ModelError when it isn't installed.
    """
    file = folder(run) / "meaning.npz"
    if not text.strip() or not file.is_file():
        return []
    vectors, latent, which = _vectors(str(file), file.stat().st_mtime_ns)
    if not len(latent):
        return []
    with _ENCODER_LOCK:  # tokenizers refuse two borrowers at once
        query = _encoder().embed([text[:500]])[0]
    return nearest(vectors, latent, which, query, limit)


def nearest(
    vectors: np.ndarray, latent: np.ndarray, which: np.ndarray, query: np.ndarray, limit: int
) -> list[int]:
    """vectors (U, d), query (d,), latent (n,) and the row of `vectors` each has, which (n,)."""
    cosine = (vectors @ query)[which]
    near = np.flatnonzero(cosine >= NEAR)
    if len(near) > limit:
        near = near[np.argpartition(-cosine[near], limit - 1)[:limit]]
    # Equal ones in the order of latents: a link shows the same list again.
    return [int(j) for j in latent[near[np.lexsort((latent[near], -cosine[near]))]]]


@lru_cache(maxsize=2)  # 200 MB each at 131,072 different labels
def _vectors(file: str, stamp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(file, allow_pickle=False) as held:
        return held["vectors"].astype(np.float32), held["latent"], held["which"]


@lru_cache(maxsize=1)
def _encoder() -> SentenceEncoder:
    from mneme.interpret.encoder import SentenceEncoder  # torch: only once it is asked for

    return SentenceEncoder()
