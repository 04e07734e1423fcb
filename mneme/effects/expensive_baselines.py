"""Baselines that cost more than a sum: what `mneme evaluate` holds the crosscoder against besides the cheap ones.

    mean_difference_lens  words that the mean activation difference promotes or demotes in the logit lens, as a text
                          assigned to categories (after Minder et al. 2025, arXiv 2510.13900): no dictionary, one
                          direction
    difference_sae        a BatchTopK dictionary of the same F, k and steps trained on x_tuned - x_base alone; a
                          category's value is how much its latents write: mean over tokens of sum_j f_j |d_j| / typical
    oracle                the affected share as the run predicts it, but on the benchmark's own text, assigned to its
                          own categories: what a perfect corpus and a perfect mapping would give

The oracle alone sees the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import on_host
from mneme.crosscoder.protocols import RawDecoder, SparseEncoder
from mneme.effects.assign import Encoder
from mneme.effects.sums import ActivationSums
from mneme.effects.windows import Windows
from mneme.harvest.protocols import Source
from mneme.interpret.tokens import TokenTexts
from mneme.models.device import on_gpu

_BATCH = 4096


class DifferenceSource:
    """A cache seen as (x_tuned - x_base) twice.

    A crosscoder of two equal activations is an SAE: its decoders start equal and get equal gradients, and its encoder
    reads the sum of its two halves. So the difference-SAE needs no trainer of its own.
    """

    def __init__(self, cache: Source) -> None:
        self.cache, self.n, self.width = cache, cache.n, cache.width

    def batches(
        self, size: int, *, shuffle: bool = False, seed: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[Tensor]:
        """(<= size, 2, d), both the same."""
        for x in self.cache.batches(size, shuffle=shuffle, seed=seed, part=part):
            difference = x[:, 1].float() - x[:, 0].float()
            yield torch.stack([difference, difference], dim=1)


def sae_steps(crosscoder: RawDecoder) -> np.ndarray:
    """(F,): |d_j|, what a unit of each latent of a difference-SAE writes, raw units."""
    norms: np.ndarray = crosscoder.raw_decoder()[1].norm(dim=-1).double().numpy()
    return norms


def moved_by(
    crosscoder: SparseEncoder,
    source: Source,
    steps: np.ndarray,
    progress: Progress = NULL_PROGRESS,
    name: str = "encode",
) -> np.ndarray:
    """(N,): sum_j f_j step_j at each row of a source, in token order."""
    found, step = [], torch.from_numpy(steps)
    with progress.task(name, source.n, "tokens") as task, on_gpu(crosscoder):
        for x in source.batches(_BATCH):
            codes = on_host(crosscoder.encode_sparse(x))
            total = torch.zeros(len(x), dtype=torch.float64)
            total.index_add_(0, codes.row, codes.value.double() * step[codes.latent])
            found.append(total.numpy())
            task.advance(len(x))
    return np.concatenate(found)


def per_window(rows: np.ndarray, windows: Windows) -> np.ndarray:
    """(W,): sums of (N,) row values."""
    return np.bincount(windows.row_window, weights=rows, minlength=len(windows.document))


def mean_by_topic(
    total: np.ndarray, size: np.ndarray, topics: Sequence[str], keys: Sequence[str]
) -> np.ndarray:
    """(C,): sum of total / sum of size, (D,) each, over the documents whose topic is the category's key; else NaN."""
    of = {key: c for c, key in enumerate(keys)}
    category = np.array([of.get(topic, -1) for topic in topics])
    known = category >= 0
    top, bottom = (np.bincount(category[known], weights=x[known], minlength=len(keys)) for x in (total, size))
    found: np.ndarray = np.divide(top, bottom, out=np.full(len(keys), np.nan), where=bottom > 0)
    return found


def mean_difference_lens(
    activations: ActivationSums,
    n_rows: int,
    heads: Sequence[Tensor],
    texts: TokenTexts,
    encoder: Encoder,
    vectors: np.ndarray,
    top: int = 40,
) -> np.ndarray:
    """(C,): cosine of each category (vectors, (C, e)) with the words promoted or those demoted, the larger."""
    mean = torch.from_numpy(activations.difference.sum(0) / max(n_rows, 1)).float()
    logits = heads[1] @ mean  # (V,)
    top = min(top, len(logits) // 2)
    said = []
    for largest in (True, False):
        ids = logits.topk(top, largest=largest).indices.numpy()
        words = [text.strip() for text in texts.texts(ids)]
        said.append(" ".join(word for word in words if word.isprintable() and len(word) > 1) or "nothing")
    best: np.ndarray = (encoder.embed(said) @ vectors.T).max(0)
    return best
