"""Does the dictionary hold what the models use? The reconstruction put in the place of the residual stream.

Each model reads some text twice: as it is, and with its residual stream after the layer replaced by the
crosscoder's reconstruction (made from both models' streams) at every token that the harvest kept. What the
predictions lose is what the dictionary does not hold.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mneme.attribution.geometry import MODELS
from mneme.attribution.grade import grade
from mneme.harvest.behaviour import compare_predictions
from mneme.harvest.forward import PairReader
from mneme.models import ModelPair
from mneme.models.layers import residual
from mneme.progress import NULL_PROGRESS, Progress


@torch.no_grad()
def splice_health(
    pair: ModelPair,
    crosscoder: Any,
    cache: Any,
    *,
    max_tokens: int = 4096,
    context_length: int = 256,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Health rows: rise of next-token NLL and KL(as it is || spliced), nats a token, both models.

    cache: the ActivationCache of this pair; its documents, spread evenly, give about `max_tokens` tokens,
    at most `context_length` of each. Values are NaN when no document has two tokens.
    """
    reader = PairReader(pair, cache.layer)
    lost: list[list[tuple[np.ndarray, np.ndarray]]] = [[], []]
    starts = np.searchsorted(cache.document, np.arange(cache.n_documents + 1))
    with progress.task("splice", max_tokens, "tokens") as task:
        seen = 0
        for document in spread(cache.n_documents):
            tokens = torch.from_numpy(np.asarray(cache.document_tokens(document))[:context_length]).long()
            kept = cache.position[starts[document] : starts[document + 1]]
            kept = torch.from_numpy(kept[kept < len(tokens)].astype(np.int64))
            if len(tokens) < 2 or not len(kept):
                continue
            for m, loss in enumerate(_lost(reader, crosscoder, tokens, kept)):
                lost[m].append(loss)
            seen += len(tokens)
            task.advance(len(tokens))
            if seen >= max_tokens:
                break
    rows = []
    for m, model in enumerate(MODELS):
        change, kl = (np.concatenate([part[c] for part in lost[m]] or [np.zeros(0)]) for c in (0, 1))
        advice = "the dictionary misses what this model uses: train longer, with more latents or a larger k"
        rows.append(
            grade(
                f"splice_nll_{model}",
                f"Rise of next-token NLL with the reconstruction spliced in, {model}",
                float(change.mean()) if len(change) else np.nan,
                "nats a token",
                advice,
                warn=0.5,
                fail=2.0,
            )
        )
        rows.append(
            grade(
                f"splice_kl_{model}",
                f"KL of the predictions with the reconstruction spliced in, {model}",
                float(kl.mean()) if len(kl) else np.nan,
                "nats a token",
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


def _lost(
    reader: PairReader, crosscoder: Any, tokens: Tensor, kept: Tensor
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per model: (change of NLL, KL) at each of the document's predicted tokens."""
    out = reader.read(tokens[None], logits=True)
    x = torch.stack([out.base[0], out.tuned[0]], dim=1)  # (T, 2, d)
    codes = crosscoder.encode_sparse(x[kept].float())
    x_hat = x.clone()
    x_hat[kept] = crosscoder.decode_sparse(codes, len(kept)).to(x.dtype)
    following = torch.cat([tokens[1:], torch.tensor([-1])])
    found = []
    for m, (model, logits) in enumerate(
        ((reader.pair.base, out.base_logits), (reader.pair.tuned, out.tuned_logits))
    ):
        assert logits is not None
        spliced = _with_stream(reader, model, tokens, x_hat[:, m])
        compared = compare_predictions(logits[0], spliced[0], following)
        change = (compared.nll_tuned - compared.nll_base).numpy()[:-1]
        found.append((change, compared.kl.numpy()[:-1]))
    return found


def _with_stream(reader: PairReader, model: Any, tokens: Tensor, stream: Tensor) -> Tensor:
    """(1, T, vocabulary) logits of a model whose residual stream after the layer is `stream` (T, d)."""
    layer = reduce(getattr, reader.pair.layers_path.split("."), model)[reader.layer]
    ids = tokens[None].to(model.device)
    with model.trace(input_ids=ids, use_cache=False):
        residual(layer.output)[:] = stream[None]
        logits = model.output.logits.save()
    return logits  # noqa: RET504 - a trace's block does not return
