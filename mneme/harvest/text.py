"""Windows of the run's text as batches: what the models read, where they are patched, where predictions are measured.

Windows are those of the harvest, so that a latent fires here where the run says it fires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mneme.corpus.windows import Window
from mneme.harvest.plan import batches_of_like_length
from mneme.harvest.protocols import Texts


class Text(NamedTuple):
    """R windows of at most T tokens, BOS included; padding is on the right, where no token looks."""

    ids: Tensor
    """(R, T) int64."""
    described: Tensor
    """(R, T) bool: what the harvest kept and the dictionary describes; no BOS, no attention sinks."""
    measured: Tensor
    """(R, T) bool: where predictions are compared."""
    following: Tensor
    """(n,) int64: the token after each measured one, in row order."""
    row: Tensor
    """(n,) int64: the window of each measured token."""
    documents: np.ndarray
    """(R,) int64."""


class TextReader:
    """Batches of a run's windows; `bos` None where the tokenizer has none."""

    def __init__(self, cache: Texts, context_length: int, bos: int | None) -> None:
        self.cache, self.bos = cache, bos
        self.stride = context_length - (bos is not None)
        self._bounds = np.searchsorted(cache.document, np.arange(cache.n_documents + 1))

    def window(self, document: int, position: int, end: int | None = None) -> Window:
        """The harvest's window that holds a document's token, cut before the token `end`."""
        start = position // self.stride * self.stride
        stop = min(start + self.stride, len(self.cache.document_tokens(document)))
        return Window(document, start, (stop if end is None else min(stop, end)) - start)

    def batches(self, windows: Mapping[Window, np.ndarray], size: int) -> Iterator[Text]:
        """Batches of at most `size` tokens; windows -> (length,) bool, the tokens whose predictions are measured.

        Of those, tokens that the dictionary does not describe and the last of a document, whose prediction nobody
        can check, are left out.
        """
        for group in batches_of_like_length(list(windows), size, self.bos is not None):
            yield self._text(group, [windows[window] for window in group])

    def _text(self, group: list[Window], wanted: list[np.ndarray]) -> Text:
        before = int(self.bos is not None)
        shape = (len(group), before + max(window.length for window in group))
        ids, following = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
        described, measured = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        if before:
            ids[:, 0] = int(self.bos or 0)
        for row, (window, mine) in enumerate(zip(group, wanted, strict=True)):
            document, start, length = window
            tokens = torch.from_numpy(np.asarray(self.cache.document_tokens(document)).astype(np.int64))
            inside = slice(before, before + length)
            ids[row, inside] = tokens[start : start + length]
            after = tokens[start + 1 : start + length + 1]
            following[row, before : before + len(after)] = after
            kept = self.cache.position[self._bounds[document] : self._bounds[document + 1]]
            kept = kept[(kept >= start) & (kept < start + length)].astype(np.int64) - start
            described[row, before + torch.from_numpy(kept)] = True
            measured[row, inside] = torch.from_numpy(mine)
        measured &= described & (following >= 0)
        place = measured.nonzero()[:, 0]
        documents = np.array([window.document for window in group], dtype=np.int64)
        return Text(ids, described, measured, following[measured], place, documents)
