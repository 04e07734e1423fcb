"""What findings are called: contexts pooled over the members, and the rules and models that name latents.

A finding's displacement stands for a latent's activation (displacement.py), its main direction for a latent's decoder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.findings.displacement import Displacement, DisplacementCodes
from mneme.harvest.protocols import Texts
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import Contexts, contexts_table, find_contexts
from mneme.interpret.corpus_words import read_words
from mneme.interpret.head import reading_heads
from mneme.interpret.labelling import label_offline
from mneme.interpret.lens import logit_lens
from mneme.interpret.tokens import TokenTexts

_SAYS_LITTLE = ("promotes", "none", "mixed")
_AREAS = 3  # of a name
_TOP, _OF_DECILE = 60, 12
"""Contexts that a name rests on, at least: a finding pools those of several latents, and there are few findings."""


class Meaning(NamedTuple):
    """Of G findings, numbered from 0 in a column `latent`."""

    contexts: pd.DataFrame
    """As the run's `contexts`; activations are displacements."""
    lens: pd.DataFrame
    """As the run's `logit_lens`, model 'tuned': what the change promotes and demotes; empty without a linear head."""
    labels: pd.DataFrame
    """latent, label, method, detail: by the offline rules."""


def meaning(
    found: Sequence[Displacement],
    directions: np.ndarray,
    cache: Texts,
    models: Sequence[Any],
    texts: TokenTexts,
    config: InterpretConfig,
    progress: Progress = NULL_PROGRESS,
) -> Meaning:
    """Contexts, logit lens and offline names. directions: (G, d), each finding's main direction; G at least 1."""
    n = len(found)
    config = dataclasses.replace(
        config,
        top_contexts=max(config.top_contexts, _TOP),
        decile_contexts=max(config.decile_contexts, _OF_DECILE),
    )
    contexts = find_contexts(DisplacementCodes(found, len(cache.document)), cache, n, config, progress)
    heads = reading_heads(models, progress)
    decoders = torch.from_numpy(directions).float().expand(2, *directions.shape)
    lens = _lens(decoders, heads, n, texts, config, progress)
    return Meaning(
        contexts_table(contexts, cache, texts).to_pandas(), lens, _names(contexts, lens, cache, texts, config)
    )


def _lens(
    decoders: torch.Tensor,
    heads: list[torch.Tensor],
    n: int,
    texts: TokenTexts,
    config: InterpretConfig,
    progress: Progress,
) -> pd.DataFrame:
    if not heads:
        columns = ["latent", "model", "direction", "rank", "token", "logit"]
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    table: pa.Table = logit_lens(
        decoders, heads, np.arange(n), texts, n_tokens=config.lens_tokens, progress=progress
    )
    frame: pd.DataFrame = table.to_pandas()
    return frame[frame["model"] == "tuned"].reset_index(drop=True)


def _names(
    contexts: Contexts, lens: pd.DataFrame, cache: Texts, texts: TokenTexts, config: InterpretConfig
) -> pd.DataFrame:
    words = read_words(cache, contexts.document, texts, config.window)
    n = len(contexts.n_active)
    return label_offline(contexts, words, lens, pd.DataFrame({"latent": np.arange(n), "probe": "tuned"}))


def named(offline: pd.DataFrame, explained: Sequence[pd.DataFrame], n: int) -> pd.DataFrame:
    """(n,) rows: name, name_method, name_detail; a model's name where there is one.

    explained: frames with latent, label, method, detail, the first that names a finding counts.
    """
    rows = pd.concat([*explained, offline], ignore_index=True).drop_duplicates("latent").set_index("latent")
    rows = rows.reindex(range(n))
    return pd.DataFrame(
        {
            "name": rows["label"].fillna("no text stands out").to_numpy(),
            "name_method": rows["method"].fillna("offline").to_numpy(),
            "name_detail": rows["detail"].fillna(json.dumps({})).to_numpy(),
        }
    )


def with_areas(names: pd.DataFrame, areas: Sequence[Sequence[str]]) -> pd.DataFrame:
    """The names, those of offline rules that found nothing about the text replaced by the areas, where there are any.

    names: as `named` gives them; areas: of each finding, the most affected first.
    """
    found = names.copy()
    for i, (detail, method, mine) in enumerate(
        zip(names["name_detail"], names["name_method"], areas, strict=True)
    ):
        if method == "offline" and mine and json.loads(detail).get("kind", "none") in _SAYS_LITTLE:
            found.loc[i, "name"] = "text on " + ", ".join(mine[:_AREAS])
            found.loc[i, "name_detail"] = json.dumps({"kind": "areas", "areas": list(mine[:_AREAS])})
    return found
