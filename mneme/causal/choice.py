"""Which text: a latent's own contexts, and the documents on which all changed latents are tried together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mneme.attribution.splice import spread
from mneme.corpus.windows import Window
from mneme.harvest.protocols import Texts
from mneme.harvest.text import TextReader

_CARRY = 0.9
"""Share of the measured KL that the documents taken whole may carry."""


def context_windows(contexts: Iterable[Mapping[str, Any]], reader: TextReader) -> dict[Window, np.ndarray]:
    """Windows of contexts (document, position, start, activations), and the tokens whose predictions are measured:
    from the first one of the context that the latent fires on to the context's end."""
    found: dict[tuple[int, int], np.ndarray] = {}
    for row in contexts:
        fires = np.asarray(row["activations"], dtype=float) > 0
        first, end = int(row["start"]) + int(fires.argmax()), int(row["start"]) + len(fires)
        window = reader.window(int(row["document"]), int(row["position"]), end)
        place = np.arange(window.start, window.start + window.length)
        key, mine = (window.document, window.start), place >= first
        held = found.get(key, np.zeros(0, dtype=bool))
        longer, shorter = (held, mine) if len(held) > len(mine) else (mine, held)
        longer[: len(shorter)] |= shorter
        found[key] = longer
    return {Window(*key, len(mask)): mask for key, mask in found.items()}


def weighed_documents(cache: Texts, max_tokens: int) -> dict[int, float]:
    """Document -> how many documents it stands for, about `max_tokens` tokens in all.

    Of the documents whose behaviour was measured (all, where none was): those with the largest KL, until they carry
    nine tenths of it or fill half of the tokens, each for itself; then an even spread of the others, which together
    stand for all of them.
    """
    known = np.isfinite(cache.kl)
    documents = np.unique(cache.document[known] if known.any() else cache.document)
    size = np.bincount(cache.document, minlength=cache.n_documents)[documents]
    values = np.where(known, cache.kl, 0).astype(np.float64)
    total = np.bincount(cache.document, weights=values, minlength=cache.n_documents)[documents]
    order = np.argsort(-total, kind="stable")
    carried = np.cumsum(total[order]) - total[order]  # by those before it
    n_top = int(((carried < _CARRY * total.sum()) & (np.cumsum(size[order]) <= max_tokens / 2)).sum())
    top, rest = order[:n_top], np.sort(order[n_top:])
    rest = rest[spread(len(rest))]
    n_rest = int((np.cumsum(size[rest]) <= max_tokens - size[top].sum()).sum())
    n_rest = max(n_rest, min(len(rest), 1))
    found = {int(documents[i]): 1.0 for i in top}
    return found | {int(documents[i]): len(rest) / n_rest for i in rest[:n_rest]}


def document_windows(documents: Iterable[int], reader: TextReader) -> dict[Window, np.ndarray]:
    """All windows of documents, every token measured."""
    found = {}
    for document in documents:
        for start in range(0, len(reader.cache.document_tokens(document)), reader.stride):
            window = reader.window(document, start)
            found[window] = np.ones(window.length, dtype=bool)
    return found
