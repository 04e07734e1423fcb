"""Does the dictionary hold what the models use? The reconstruction put in the place of the residual stream.

Each model reads some of the harvest's windows twice: as it is, and with its residual stream after the layer replaced by
the crosscoder's reconstruction (made from both models' streams) at every token that the harvest kept. What the
predictions lose there is what the dictionary does not hold. BOS stays as it is: models hang their attention on it, so
that a reconstruction in its place would cost nats, whatever the dictionary holds of the text.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.attribution.geometry import MODELS
from mneme.attribution.health_row import health_row
from mneme.corpus.windows import Window
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.behaviour import Behaviour, compare_predictions
from mneme.harvest.cache import ActivationCache
from mneme.harvest.config import HarvestConfig
from mneme.harvest.continuation import Continuation
from mneme.harvest.forward import PairReader
from mneme.harvest.limits import logits_batch_tokens, within_limits
from mneme.harvest.text import Text, TextReader
from mneme.models import ModelPair
from mneme.models.device import on_gpu


@torch.no_grad()
def splice_health(
    pair: ModelPair,
    crosscoder: Crosscoder,
    cache: ActivationCache,
    harvest: HarvestConfig | None = None,
    *,
    max_tokens: int = 4096,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Health rows: rise of next-token NLL and KL(as it is || spliced), nats per token, both models.

    cache: the ActivationCache of this pair, made with the settings `harvest`. The first windows of documents spread
    evenly give about `max_tokens` tokens. Not measured when none holds two tokens.
    """
    harvest = within_limits(harvest or HarvestConfig(), pair)
    continuation = Continuation(PairReader(pair, cache.layer, harvest.share_layers))
    text = TextReader(cache, harvest.context_length, pair.tokenizer.bos_token_id)
    windows = _first_windows(text, cache.n_documents, max_tokens)
    found: list[list[Behaviour]] = [[], []]
    n_tokens = sum(window.length for window in windows)
    with progress.task("splice", n_tokens, "tokens") as task, on_gpu(crosscoder):
        for batch in text.batches(windows, logits_batch_tokens(pair, harvest)):
            for m, compared in enumerate(_compared(continuation, crosscoder, batch)):
                found[m].append(compared)
            task.advance(int(batch.described.sum()))
    rows = []
    for m, model in enumerate(MODELS):
        change = np.concatenate([np.zeros(0), *(part.nll_tuned - part.nll_base for part in found[m])])
        kl = np.concatenate([np.zeros(0), *(part.kl for part in found[m])])
        advice = "the dictionary misses what this model uses: train longer, with more latents or a larger k"
        rows.append(
            health_row(
                f"splice_nll_{model}",
                f"Rise of next-token NLL with the reconstruction spliced in, {model}",
                float(change.mean()) if len(change) else None,
                "nats per token",
                advice,
                warn=0.5,
                fail=2.0,
            )
        )
        rows.append(
            health_row(
                f"splice_kl_{model}",
                f"KL of the predictions with the reconstruction spliced in, {model}",
                float(kl.mean()) if len(kl) else None,
                "nats per token",
                advice,
                warn=0.5,
                fail=2.0,
            )
        )
    return pd.DataFrame(rows)


def spread(n: int) -> np.ndarray:
    """0 .. n - 1 in an order whose every beginning is spread over the whole: multiples of the golden
    ratio."""
    return np.argsort((np.arange(n) * 0.6180339887498949) % 1.0)


def _first_windows(text: TextReader, n_documents: int, max_tokens: int) -> dict[Window, np.ndarray]:
    """The first windows of documents spread evenly, of about so many tokens in all, and where to measure: all over."""
    windows: dict[Window, np.ndarray] = {}
    seen = 0
    for document in spread(n_documents):
        window = text.window(int(document), 0)
        if window.length > 1 and seen < max_tokens:
            windows[window] = np.ones(window.length, dtype=bool)
            seen += window.length
    return windows


def _compared(continuation: Continuation, crosscoder: Crosscoder, text: Text) -> list[Behaviour]:
    """Per model: the predictions as they are (base) against those with the reconstruction (tuned), CPU."""
    pair = continuation.pair
    streams = continuation.reader.read(text.ids, logits=False)
    described = text.described.to(streams.base.device)
    x = torch.stack([streams.base[described], streams.tuned[described]], dim=1).float()  # (n, 2, d)
    x_hat = crosscoder(x)
    found = []
    for m, (model, stream) in enumerate(((pair.base, streams.base), (pair.tuned, streams.tuned))):
        spliced = stream.clone()
        spliced[described] = x_hat[:, m].to(stream)
        as_is, replaced = (continuation.logits(model, text.ids, s, text.measured) for s in (stream, spliced))
        found.append(compare_predictions(as_is, replaced, text.following))
    return found
