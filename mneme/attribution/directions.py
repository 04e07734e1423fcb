"""What each document adds to latents' own directions, read batch by batch: s_i^m of turns.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme._util import distributed
from mneme._util.progress import Progress
from mneme.attribution.geometry import Geometry
from mneme.attribution.scaling import own_batches
from mneme.crosscoder.codes import KeptCodes, SparseCodes
from mneme.crosscoder.kernels import sparse_decode, weighted_bags
from mneme.crosscoder.protocols import SparseEncoder
from mneme.harvest.protocols import Activations


class Directions(NamedTuple):
    """What documents add to the directions of latents: R (document, latent) pairs."""

    document: np.ndarray
    """(R,) int64."""
    place: np.ndarray
    """(R,) int64: of the latent among the candidates."""
    power: np.ndarray
    """(R,) float64: sum f^2."""
    vector: np.ndarray
    """(R, 2, d) float64: s_i^m, raw units."""


class DirectionReader:
    """Gives whole documents' shares of the directions, batch after batch; may be gone through more than once."""

    def __init__(
        self,
        encoder: SparseEncoder | KeptCodes,
        geometry: Geometry,
        cache: Activations,
        candidates: np.ndarray,
        documents: np.ndarray | None,
        swapped: np.ndarray | None,
        batch_size: int,
        progress: Progress,
    ) -> None:
        self._encoder, self._cache, self._size, self._progress = encoder, cache, batch_size, progress
        self._decoder = geometry.decoder.transpose(0, 1).flatten(1).contiguous()  # (F, 2 d)
        self._bias = geometry.bias.flatten()
        place = torch.full((geometry.n_latents,), -1, dtype=torch.int64)
        place[torch.from_numpy(candidates)] = torch.arange(len(candidates))
        self._place = place.to(self._decoder.device)
        self._own = (
            self._decoder[torch.from_numpy(candidates).to(self._decoder.device)].double().cpu().numpy()
        )
        self._documents = documents
        self._swapped = swapped if swapped is not None else np.zeros(0, np.int64)

    def __iter__(self) -> Iterator[Directions]:
        held: Directions | None = None
        start, batches = own_batches(self._cache, self._size, self._cache.document)
        if isinstance(self._encoder, KeptCodes):
            self._encoder.go_to(start)
        with self._progress.task("attribution: directions", self._cache.n, "tokens") as task:
            for x in batches:
                document = self._cache.document[start : start + len(x)].astype(np.int64)
                rows = self._rows(x, document)
                start += len(x)
                task.advance(len(x) * distributed.world_size())
                rows = rows if held is None else _joined(held, rows)
                last = rows.document == document[-1]
                held = Directions(*(part[last] for part in rows))
                yield self._finished(Directions(*(part[~last] for part in rows)))
        if held is not None:
            yield self._finished(held)

    def _rows(self, x: Tensor, document: np.ndarray) -> Directions:
        """What a batch adds: x (B, 2, d) raw; document (B,), each contiguous. Vectors of the residual alone."""
        x = x.to(self._decoder.device)
        if not isinstance(self._encoder, KeptCodes):
            x = x.to(self._decoder.dtype)
        row, latent, value = self._encoder.encode_sparse(x)
        place = self._place[latent]
        mine = place >= 0
        if self._documents is not None:
            mine &= torch.from_numpy(self._documents[document]).to(mine.device)[row]
        used, where = torch.unique(row[mine], return_inverse=True)
        # decode only what a candidate fires on
        renumbered = torch.full((len(x),), -1, dtype=torch.int64, device=row.device)
        renumbered[used] = torch.arange(len(used), device=row.device)
        near = renumbered[row] >= 0
        codes = SparseCodes(renumbered[row[near]], latent[near], value[near])
        residual = (
            x[used].to(self._decoder.dtype).flatten(1)
            - self._bias
            - sparse_decode(codes, self._decoder, len(used))
        )
        owner = torch.from_numpy(document).to(row.device)[row[mine]]
        key = owner * len(self._own) + place[mine]
        order = torch.argsort(key, stable=True)
        pairs, counts = torch.unique_consecutive(key[order], return_counts=True)
        bag = torch.repeat_interleave(torch.arange(len(pairs), device=row.device), counts)
        f = value[mine][order].to(self._decoder.dtype)
        vector = weighted_bags(where[order], bag, f, residual, len(pairs)).double().cpu().numpy()
        power = np.bincount(
            bag.cpu().numpy(), weights=f.double().square().cpu().numpy(), minlength=len(pairs)
        )
        ids = pairs.cpu().numpy()
        return Directions(
            ids // len(self._own),
            ids % len(self._own),
            power,
            vector.reshape(len(ids), 2, len(self._bias) // 2),
        )

    def _finished(self, rows: Directions) -> Directions:
        """Whole documents' rows: the latent is put back into the residual; in swapped ones the models change places."""
        own = self._own[rows.place].reshape(rows.vector.shape)
        vector = rows.vector + rows.power[:, None, None] * own
        mine = np.isin(rows.document, self._swapped)
        vector[mine] = vector[mine][:, ::-1]
        return rows._replace(vector=vector)


def _joined(held: Directions, new: Directions) -> Directions:
    """One row a (document, latent), of the document that the last batch ended in and of this batch."""
    rows = Directions(*(np.concatenate(parts) for parts in zip(held, new, strict=True)))
    same = rows.document == (held.document[-1] if len(held.document) else -1)
    if not same.any():
        return rows
    place, where = np.unique(rows.place[same], return_inverse=True)
    power, vector = np.zeros(len(place)), np.zeros((len(place), *rows.vector.shape[1:]))
    np.add.at(power, where, rows.power[same])
    np.add.at(vector, where, rows.vector[same])
    first = Directions(np.full(len(place), held.document[-1]), place, power, vector)
    rest = Directions(*(part[~same] for part in rows))
    return Directions(*(np.concatenate(parts) for parts in zip(first, rest, strict=True)))
