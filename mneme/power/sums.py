"""What one pass over activations and codes keeps for the positive control; nothing is encoded.

The same sums that attribution makes (moments over documents, scaling), and whole documents' shares of the documents
that injections may touch, so that a document can be taken out of the sums and put in again, changed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from mneme._util.errors import ActivationError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.attribution.evidence import DocumentJoiner, DocumentMoments, DocumentShares
from mneme.attribution.geometry import Geometry
from mneme.attribution.pairs import PairSums, encode_pair_sums
from mneme.attribution.scaling import ScalingSums
from mneme.crosscoder.codes import CodeCache, SparseCodes
from mneme.effects.windows import Windows
from mneme.harvest.protocols import Activations

_BATCH = 2048  # rows read at a time


class KeptSums(NamedTuple):
    """F latents, W windows, D documents, N rows."""

    moments: DocumentMoments
    scaling: ScalingSums
    shares: tuple[sparse.csr_array, sparse.csr_array]
    """(D, F) each, base and tuned: `DocumentShares.shares` of the documents that were asked for."""
    power: sparse.csr_array
    """(D, F): sum f^2 of the same."""
    typical: float
    """Root mean square of |x_base - mean|, raw units."""
    difference_norm: np.ndarray
    """(W,): sum over a window's rows of |x_tuned - x_base|, raw units."""
    codes: sparse.csr_array
    """(N, F): f of the rows of the documents asked for; other rows are empty."""
    counts: np.ndarray
    """(D,) bool: documents that moments, scaling and shares are of, as in attribution."""


class _Replay:
    """Gives each batch's codes as they were kept, where a crosscoder would encode."""

    def __init__(self) -> None:
        self.next = SparseCodes(torch.zeros(0), torch.zeros(0), torch.zeros(0))

    def encode_sparse(self, x: torch.Tensor) -> SparseCodes:
        return self.next


def keep_sums(
    geometry: Geometry,
    cache: Activations,
    codes: CodeCache,
    windows: Windows,
    documents: np.ndarray,
    counts: np.ndarray | None = None,
    progress: Progress = NULL_PROGRESS,
) -> KeptSums:
    """One pass. cache: ActivationCache; codes: its CodeCache; documents: whose shares and codes are kept; counts: (D,)
    bool, documents that evidence is made of, None: all.

    Raises ActivationError when the codes are of another harvest.
    """
    F, n_windows = geometry.n_latents, len(windows.document)
    if codes.n_tokens != cache.n or codes.n_latents != F:
        raise ActivationError(
            "the codes are of another harvest: delete the codes and run the same command again"
        )
    joiner, moments, scaling, replay = DocumentJoiner(geometry), DocumentMoments(F), ScalingSums(F), _Replay()
    document = cache.document.astype(np.int64)
    D = int(document.max(initial=-1)) + 1
    counting = np.ones(D, dtype=bool) if counts is None else counts
    wanted = np.zeros(D, dtype=bool)
    wanted[documents] = True
    kept: list[DocumentShares] = []
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    norm = np.zeros(n_windows)
    square, total = 0.0, np.zeros(cache.width)

    def add(rows: DocumentShares) -> None:
        moments.update(rows)
        mine = wanted[rows.document]
        kept.append(DocumentShares(*(part[mine] for part in rows)))

    with progress.task("power: sums", cache.n, "tokens") as task:
        for first, part, n in codes.shards():
            bounds = np.searchsorted(part.row.numpy(), np.arange(0, n + _BATCH, _BATCH))
            for number, start in enumerate(range(0, n, _BATCH)):
                stop, here = min(start + _BATCH, n), slice(bounds[number], bounds[number + 1])
                rows = slice(first + start, first + stop)
                x = cache.read(rows.start, rows.stop)
                replay.next = SparseCodes(part.row[here] - start, part.latent[here], part.value[here])
                pairs, _, tokens = encode_pair_sums(replay, geometry, x, document[rows])
                pairs = PairSums(*(each[counting[pairs.document]] for each in pairs))
                scaling.update(pairs)
                add(joiner.push(pairs))
                total += tokens.total[0]
                square += float(tokens.square[0])
                moved = np.linalg.norm((x[:, 1].float() - x[:, 0].float()).numpy(), axis=1)
                norm += np.bincount(windows.row_window[rows], weights=moved, minlength=n_windows)
                mine = wanted[document[rows]][replay.next.row.numpy()]
                entries.append(
                    (
                        rows.start + replay.next.row.numpy()[mine],
                        replay.next.latent.numpy()[mine],
                        replay.next.value.numpy()[mine],
                    )
                )
                task.advance(stop - start)
    last = joiner.finish()
    if last is not None:
        add(last)
    found = DocumentShares(*(np.concatenate(column) for column in zip(*kept, strict=True)))
    at = (found.document, found.latent)
    row, latent, value = (np.concatenate(column) for column in zip(*entries, strict=True))
    variance = square / max(cache.n, 1) - float(np.square(total / max(cache.n, 1)).sum())
    return KeptSums(
        moments,
        scaling,
        tuple(sparse.csr_array((found.shares[:, m], at), shape=(D, F)) for m in (0, 1)),  # type: ignore[arg-type]  # two
        sparse.csr_array((found.power, at), shape=(D, F)),
        float(np.sqrt(max(variance, 0.0))),
        norm,
        sparse.csr_array((value, (row, latent)), shape=(cache.n, F)),
        counting,
    )
