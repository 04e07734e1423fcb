"""Made-up contexts, labels, categories, logit lens and neighbours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES, COMMON, HOSTILE


def write_contexts(
    writer: StageWriter,
    rng: np.random.Generator,
    latents: pd.DataFrame,
    contexts: int,
    window: int,
    documents: int,
    hostile: bool,
) -> None:
    """Half of the contexts are top ones, the rest spread over the deciles; written in blocks of latents."""
    words = [" " + w for w in COMMON]
    own = np.zeros((len(CATEGORIES), 6), np.int32)
    for i, (_, _, _, text) in enumerate(CATEGORIES.values()):
        own[i] = np.arange(len(words), len(words) + 6)
        words += [" " + w for w in text.split()]
    if hostile:
        words[1 : 1 + len(HOSTILE)] = HOSTILE
    vocabulary = pa.array(words)
    top = max(1, contexts // 2)
    spread = contexts - top
    quantile = np.concatenate([np.zeros(top), 1 + np.arange(spread) % 10]).astype(np.int32)
    rank = np.concatenate([np.arange(top), np.arange(spread) // 10]).astype(np.int32)
    writer.connection.execute("DELETE FROM contexts")
    live = latents[~latents["dead"]]
    for at in range(0, len(live), 2048):
        block = live.iloc[at : at + 2048]
        n = len(block) * contexts
        token = rng.integers(0, len(COMMON), (n, window), dtype=np.int32)
        home = np.repeat(block["home"].to_numpy(), contexts)
        peak = rng.integers(window // 4, window * 3 // 4, n)
        level = np.tile(np.where(quantile == 0, 1.0, quantile / 11.0), len(block))
        level = level * np.repeat(block["max_activation"].to_numpy(), contexts)
        rows, activation = np.arange(n), np.zeros((n, window), np.float32)
        for offset, share in ((0, 1.0), (1, 0.45), (-3, 0.3)):
            token[rows, peak + offset] = own[home, rng.integers(0, 6, n)]
            activation[rows, peak + offset] = share * level
        document = rng.integers(0, documents, n, dtype=np.int32)
        start = rng.integers(0, 200, n, dtype=np.int32)
        kl = rng.exponential(0.05, (n, window)).astype(np.float32) + 0.3 * (activation > 0)
        change = rng.normal(0, 0.1, (n, window)).astype(np.float32) + 0.4 * (activation > 0)

        def lists(values: pa.Array) -> pa.ListArray:
            return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * window, values)  # noqa: B023

        writer.append(
            "contexts",
            pa.table(
                {
                    "latent": np.repeat(block["latent"].to_numpy(), contexts).astype(np.int32),
                    "rank": np.tile(rank, len(block)),
                    "quantile": np.tile(quantile, len(block)),
                    "split": np.where(document % 2 == 0, "train", "test"),
                    "document": document,
                    "position": (start + peak).astype(np.int32),
                    "start": start,
                    "tokens": lists(vocabulary.take(pa.array(token.ravel()))),
                    "activations": lists(pa.array(activation.ravel())),
                    "kl": lists(pa.array(kl.ravel())),
                    "nll_change": lists(pa.array(change.ravel())),
                }
            ),
        )


def write_interpretation(
    writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool
) -> None:
    live = latents[~latents["dead"]]
    ids, n = live["latent"].to_numpy(), len(live)
    keys = np.array(list(CATEGORIES))
    second = rng.integers(0, len(keys), n)
    writer.replace(
        "latent_categories",
        pd.DataFrame(
            {
                "latent": np.concatenate([ids, ids]),
                "category": np.concatenate([keys[live["home"]], keys[second]]),
                "weight": np.concatenate([np.full(n, 0.6), np.full(n, 0.2)]),
            }
        ).drop_duplicates(["latent", "category"]),
    )
    lens = []
    words = np.array(HOSTILE[:8] if hostile else [" " + w for w in COMMON[:8]])
    for model, shift in (("base", 0.0), ("tuned", 0.4), ("difference", 0.4)):
        for direction, sign in (("top", 1), ("bottom", -1)):
            lens.append(
                pd.DataFrame(
                    {
                        "latent": np.repeat(ids, 8),
                        "model": model,
                        "direction": direction,
                        "rank": np.tile(np.arange(8), n),
                        "token": np.tile(words, n),
                        "logit": np.tile(sign * (3 - 0.3 * np.arange(8) + shift), n),
                    }
                )
            )
    writer.replace("logit_lens", pd.concat(lens))
    near = [
        pd.DataFrame(
            {
                "latent": np.repeat(ids, 6),
                "kind": kind,
                "rank": np.tile(np.arange(6), n),
                "neighbour": ids[rng.integers(0, n, n * 6)],
                "similarity": np.tile(np.linspace(0.8, 0.3, 6), n),
            }
        )
        for kind in ("decoder", "firing")
    ]
    writer.replace("neighbours", pd.concat(near))
