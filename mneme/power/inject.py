"""A displacement added to the tuned activations of part of a category's text, and what the latents' sums become.

Nothing is trained: the dictionary stays as it is, and reads the displaced rows again. Only latents that answer a
displacement most are read again and judged anew (`Dictionary.answering`); the codes of the others stay. What they add
to attribution's sums on the displaced rows is taken out and put in again, whole documents at a time, so that what is
judged is what attribution would sum up over the whole corpus, up to the others' codes.

For K latents, a direction v of size s and displaced rows x, all is linear but the threshold:

    pre-activation   pre(x) + s (W_enc^t v / scale^t)
    residual . p     (x - x_hat) . p + sum_k (f_k - f'_k) (d_k . p) + s (v . p) in the tuned model

so that each size costs products of K by K, whatever the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from mneme.attribution.evidence import DocumentJoiner, DocumentMoments, DocumentShares
from mneme.attribution.geometry import BASE, TUNED, Geometry
from mneme.attribution.pairs import PairSums
from mneme.attribution.scaling import ScalingSums
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.codes import SparseCodes
from mneme.harvest.protocols import Activations
from mneme.power.sums import KeptSums


class Text(NamedTuple):
    """Rows of one category's text in the documents that may be displaced, ascending; n rows."""

    row: np.ndarray
    """(n,) int64: of the cache."""
    document: np.ndarray
    """(n,) int64."""
    difference: np.ndarray
    """(n, d) float32: x_tuned - x_base, raw."""
    normalised: np.ndarray
    """(n, 2 d) float32: what the encoder reads."""
    residual: np.ndarray
    """(n, 2, d) float32: x - x_hat, raw."""
    codes: sparse.csr_array
    """(n, F)."""


class Injected(NamedTuple):
    """What a displacement makes of the sums of K latents; n displaced rows."""

    moments: DocumentMoments
    scaling: ScalingSums
    codes: np.ndarray
    """(n, K): what the latents give there."""


class Dictionary:
    """A crosscoder, its geometry, and what injections need of both. Not for the variant topk, where latents compete."""

    def __init__(self, crosscoder: Crosscoder, geometry: Geometry) -> None:
        self.crosscoder, self.geometry = crosscoder, geometry
        self.directions = geometry.directions.cpu().numpy()
        """(F, d) float32: unit main probes."""
        self.norm = geometry.norms[geometry.probe, np.arange(geometry.n_latents)]
        """(F,): how long they are, raw units."""
        self._encoder = crosscoder.W_enc.detach().float().cpu().numpy()  # (2, d, F)
        self._bias = crosscoder.b_enc.detach().float().cpu().numpy()
        self._scale = crosscoder.scale.detach().float().cpu().numpy()
        norms = crosscoder.decoder_norms().sum(0).cpu().numpy()
        floor = float(crosscoder.threshold) if crosscoder.config.variant == "batchtopk" else 0.0
        self.least = np.maximum(floor / np.maximum(norms, 1e-30), 0).astype(np.float32)
        """(F,): a latent fires where its pre-activation exceeds this."""
        self._norms = norms

    def shift(self, direction: np.ndarray) -> np.ndarray:
        """(F,): by how much pre-activations rise for a unit of the direction (d,), raw units, in the tuned model."""
        found: np.ndarray = (direction.astype(np.float32) @ self._encoder[TUNED]) / self._scale[TUNED]
        return found

    def answering(self, direction: np.ndarray, n: int) -> np.ndarray:
        """(<= n,): the latents that answer the direction most, either way, ascending."""
        size = np.abs(self.shift(direction) * self._norms)
        return np.sort(np.argsort(-size, kind="stable")[:n])

    def read(self, normalised: np.ndarray, latents: np.ndarray) -> np.ndarray:
        """(n, K): pre-activations of some latents."""
        weight = self._encoder[:, :, latents].reshape(-1, len(latents))
        found: np.ndarray = normalised @ weight + self._bias[latents]
        return found

    def part(self, latents: np.ndarray) -> Geometry:
        """The geometry of some latents alone."""
        g = self.geometry
        decoder = g.decoder[:, torch.from_numpy(latents)].contiguous()
        return Geometry(decoder, g.bias, g.dots[:, :, latents], g.probe[latents], g.turned[latents])


def read_text(dictionary: Dictionary, cache: Activations, kept: KeptSums, row: np.ndarray) -> Text:
    """row: ascending rows of documents whose codes are kept."""
    cuts = np.flatnonzero(np.diff(row) != 1) + 1
    runs = [(int(part[0]), int(part[-1]) + 1) for part in np.split(row, cuts) if len(part)]
    x = torch.cat([cache.read(start, stop) for start, stop in runs]).float()
    codes = sparse.csr_array(kept.codes[row])
    crosscoder = dictionary.crosscoder
    residual = x - crosscoder.decode_sparse(_sparse_codes(codes), len(row))
    return Text(
        row,
        cache.document[row].astype(np.int64),
        (x[:, TUNED] - x[:, BASE]).numpy(),
        crosscoder.normalise(x).reshape(len(x), -1).numpy(),
        residual.numpy(),
        codes,
    )


class Injection:
    """One direction, and the rows of a text that it displaces, at any size."""

    def __init__(
        self,
        dictionary: Dictionary,
        kept: KeptSums,
        text: Text,
        part: np.ndarray,
        direction: np.ndarray,
        latents: np.ndarray,
        times: float = 1.0,
    ) -> None:
        """part: documents of the text that are displaced, ascending; direction: (d,) unit, raw units; latents: (K,),
        read again; times: how many documents each displaced one stands for."""
        self.latents, self.direction, self._kept, self._part, self._times = (
            latents,
            direction,
            kept,
            part,
            times,
        )
        self._counts = kept.counts[part]  # what is displaced elsewhere is text, and no evidence
        self.geometry = dictionary.part(latents)
        self.row = np.flatnonzero(np.isin(text.document, part))
        """Places in the text of the displaced rows."""
        document = text.document[self.row]
        self._first = np.flatnonzero(np.r_[True, np.diff(document) != 0])
        self._rows_of = document[self._first]
        self._codes = text.codes[self.row].tocsc()[:, latents].toarray()  # (n, K)
        self._pre = dictionary.read(text.normalised[self.row], latents)
        self._least = dictionary.least[latents]
        self._shift = dictionary.shift(direction)[latents]
        decoder = self.geometry.decoder.cpu().numpy()  # (2, K, d)
        self._gram = np.einsum("mkd,qjd->mqkj", decoder, decoder, optimize=True)  # d_k^m . p_j^q
        residual = text.residual[self.row]
        self._along = np.stack([[residual[:, m] @ probe.T for probe in decoder] for m in (BASE, TUNED)])
        self._own = decoder @ direction.astype(np.float32)  # (2 q, K): v . p^q
        self._before = self._sums(self._codes, 0.0)
        self._old = [sparse.csr_array(one)[part][:, latents].toarray() for one in (*kept.shares, kept.power)]
        self._elsewhere = [whole - now for whole, now in zip(self._old, self._before[:3], strict=True)]

    def at(self, size: float) -> Injected:
        """The sums with a displacement of so many raw units."""
        pre = self._pre + np.float32(size) * self._shift
        codes = np.where(pre > self._least, pre, np.float32(0))
        after = self._sums(codes, size)
        new = [rest + now for rest, now in zip(self._elsewhere, after[:3], strict=True)]
        return Injected(self._moments(new), self._scaling(after), codes)

    def _sums(self, codes: np.ndarray, size: float) -> tuple[np.ndarray, ...]:
        """Over the displaced rows, by document of `part` and latent: shares base, tuned, power (P, K); dots (P, K, 8).

        codes: (n, K). The dots of `activation` are left at 0: no verdict rests on them.
        """
        P, K = len(self._part), len(self.latents)
        dots = np.zeros((P, K, 2, 2, 2))
        at = np.searchsorted(self._part, self._rows_of)
        for m in (BASE, TUNED):
            for q in (BASE, TUNED):
                residual = self._along[m, q] + (self._codes - codes) @ self._gram[m, q]
                if m == TUNED:
                    residual += np.float32(size) * self._own[q]
                dots[at, :, 1, m, q] = np.add.reduceat(
                    (codes * residual).astype(np.float64), self._first, axis=0
                )
        power, fires = np.zeros((P, K)), np.zeros((P, K), dtype=np.int64)
        power[at] = np.add.reduceat(np.square(codes, dtype=np.float64), self._first, axis=0)
        fires[at] = np.add.reduceat(codes > 0, self._first, axis=0, dtype=np.int64)
        row, latent = fires.nonzero()
        pairs = PairSums(self._part[row], latent, fires[row, latent], power[row, latent], dots[row, latent])
        joiner = DocumentJoiner(self.geometry)
        whole = [rows for rows in (joiner.push(pairs), joiner.finish()) if rows is not None]
        shares = np.zeros((2, P, K))
        for rows in whole:
            shares[:, np.searchsorted(self._part, rows.document), rows.latent] = rows.shares.T
        return shares[BASE], shares[TUNED], power, dots.reshape(P, K, 8)

    def _moments(self, new: Sequence[np.ndarray]) -> DocumentMoments:
        """The whole corpus' moments, the displaced documents' old rows taken out and the new ones put in."""
        whole, out, into = (DocumentMoments(len(self.latents)) for _ in range(3))
        mine = self._counts
        out.update(_document_rows(self._part[mine], [table[mine] for table in self._old]))
        into.update(_document_rows(self._part[mine], [table[mine] for table in new]))
        for name in ("n", "totals", "squares"):
            kept = getattr(self._kept.moments, name)[..., self.latents]
            change = self._times * (getattr(into, name) - getattr(out, name))
            getattr(whole, name)[...] = kept + (np.rint(change).astype(np.int64) if name == "n" else change)
        return whole

    def _scaling(self, after: tuple[np.ndarray, ...]) -> ScalingSums:
        whole = ScalingSums(len(self.latents))
        kept = self._kept.scaling
        whole.dots[...] = kept.dots[self.latents] + self._times * (after[3] - self._before[3])[
            self._counts
        ].sum(0)
        whole.power[...] = kept.power[self.latents] + self._times * (after[2] - self._before[2])[
            self._counts
        ].sum(0)
        return whole


def outside(active: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, d) random unit directions orthogonal to all rows of `active` (a, d), a < d."""
    found = rng.normal(size=(n, active.shape[1]))
    if len(active):
        active = active.astype(np.float64)
        found -= np.linalg.lstsq(active @ active.T, active @ found.T, rcond=None)[0].T @ active
    out: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return out


def _sparse_codes(table: sparse.csr_array) -> SparseCodes:
    entries = table.sorted_indices().tocoo()
    row, latent = (torch.from_numpy(part.astype(np.int64)) for part in (entries.row, entries.col))
    return SparseCodes(row, latent, torch.from_numpy(entries.data.astype(np.float32)))


def _document_rows(document: np.ndarray, table: Sequence[np.ndarray]) -> DocumentShares:
    """Whole documents' rows from shares base, tuned and power (P, K); where a latent does not fire there is none."""
    base, tuned, power = table
    floor = 1e-9 * max(float(np.abs(power).max(initial=0)), 1e-30)  # what subtracting leaves of a zero
    at = power > floor
    row, latent = at.nonzero()
    shares = np.stack([base[at], tuned[at]], axis=1)
    return DocumentShares(document[row], latent, power[at], shares, np.zeros((len(row), 8)))
