"""`mneme read-out`: what dictionaries of one model alone say, read on each model, beside the run's crosscoder.

One latent of a crosscoder stands for both models, and hides a feature that the tuned model stops using while it does
something else on the same tokens. A dictionary of the base alone sees it (mneme/crosscoder/read_out.py). Written to the
run's tables `read_outs` (a row a dictionary), `read_out_latents` and `read_out_contexts` (of the changed latents).
Dictionaries are kept in RUN/read-out/, and one whose rows the run has isn't read again, so a check that was stopped
goes on.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme._util.errors import ConfigError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import suggest
from mneme.crosscoder.config import READ_OUT
from mneme.run.context import RunContext
from mneme.run.finished import finished_context, kept_crosscoder, tell_findings
from mneme.store.queries import read_out as queries
from mneme.store.run import Run
from mneme.store.writing import writing

if TYPE_CHECKING:
    import pyarrow as pa

    from mneme.attribution import Attribution
    from mneme.crosscoder import Crosscoder

FOLDER = "read-out"
CONTEXTS = 5
"""Top contexts kept of each changed latent."""
_COLUMNS = (
    *("latent", "verdict", "reason", "log_ratio", "ci_low", "ci_high", "q_value", "beta_base", "beta_tuned"),
    *("severity", "firing_rate", "mean_activation", "n_documents", "dense", "position_bound"),
)


def run_read_out(
    folder: str | Path, *, dictionaries: Iterable[str] = READ_OUT, progress: Progress = NULL_PROGRESS
) -> pd.DataFrame:
    """Train, read and judge each dictionary that the run lacks; returns the run's table `read_outs`.

    dictionaries: of READ_OUT: "base" shows what the tuned model uses less of, "tuned" what the base has less of. Their
    size and training are the run's own. Raises ConfigError for another name, RunError for a folder that is no finished
    run.
    """
    names = list(dict.fromkeys(dictionaries))
    for name in names:
        if name not in READ_OUT:
            raise ConfigError(f"there is no read-out dictionary {name!r}: {suggest(name, READ_OUT)}")
    context, run = finished_context(folder, progress)
    with writing(context.folder):
        for name in names:
            if name not in queries.summaries(run)["dictionary"].to_list():
                _read(context, run, name)
        tell_findings(run)
    return queries.summaries(run)


def _read(context: RunContext, run: Run, name: str) -> None:
    """One dictionary's rows."""
    from mneme.attribution.stream import attribute
    from mneme.crosscoder import CodeCache

    config = dataclasses.replace(context.config.crosscoder, variant=name)  # type: ignore[arg-type]  # of READ_OUT
    dictionary = kept_crosscoder(context, f"{FOLDER}/{name}", config, context.cache)
    with tempfile.TemporaryDirectory(dir=context.folder / FOLDER) as codes:
        found = attribute(dictionary, context.cache, codes, context.config.attribution, context.progress)
        labels, contexts = _texts(context, CodeCache(codes), found.latents)
    latents = found.latents[list(_COLUMNS)].merge(labels, on="latent", how="left").assign(dictionary=name)
    summary = _summary(context, dictionary, found, name)
    with run.stage_writer() as writer:
        for table, rows in (
            *(("read_outs", summary), ("read_out_latents", latents)),
            ("read_out_contexts", contexts.append_column("dictionary", [[name] * len(contexts)])),
        ):
            writer.connection.execute(f"DELETE FROM {table} WHERE dictionary = ?", [name])
            writer.append(table, rows)


def _texts(context: RunContext, codes: object, latents: pd.DataFrame) -> tuple[pd.DataFrame, pa.Table]:
    """Labels (columns latent, label) of all live latents from their contexts, and the changed ones' top contexts."""
    from mneme.interpret.contexts import contexts_table, find_contexts
    from mneme.interpret.corpus_words import read_words
    from mneme.interpret.labelling import label_offline
    from mneme.interpret.tokens import TokenTexts

    config, texts = context.config.interpret, TokenTexts(context.tokenizer)
    found = find_contexts(codes, context.cache, len(latents), config, context.progress)  # type: ignore[arg-type]  # Codes
    words = read_words(context.cache, found.document, texts, config.window)
    no_lens = pd.DataFrame({"latent": np.zeros(0, np.int64), "model": [], "token": []})
    labels = label_offline(found, words, no_lens, latents)[["latent", "label"]]
    changed = latents.loc[latents["verdict"].isin(queries.CHANGED), "latent"].to_numpy()
    shown = np.isin(found.latent, changed) & (found.quantile == 0) & (found.rank < CONTEXTS)
    table = contexts_table(found.take(np.flatnonzero(shown)), context.cache, texts)
    kept = ("latent", "rank", "document", "position", "start", "tokens", "activations")
    return labels, table.select(kept)


def _summary(context: RunContext, dictionary: Crosscoder, found: Attribution, name: str) -> pd.DataFrame:
    """A row of `read_outs`: how well the dictionary reads each model, and how often it calls a change where none is."""
    from mneme.attribution.nulls import null_row, rounding_null
    from mneme.attribution.stream import attribute

    model, config = READ_OUT.index(name), context.config.attribution
    rounded = rounding_null(context.cache, model=model)
    null = null_row(
        "rounded", attribute(_of_one(dictionary, model), rounded, None, config, context.progress), config
    )
    explained = found.fit.explained_variance
    return pd.DataFrame(
        {
            "dictionary": [name],
            "n_latents": dictionary.n_latents,
            "explained_variance_base": explained[0],
            "explained_variance_tuned": explained[1],
            "common_scale": float(np.exp(found.reference)),
            "margin": found.margin,
            "null_n": null["n"],
            "null_n_false": null["n_false"],
            "null_rate": null["rate"],
            "null_ci_low": null["ci_low"],
            "null_ci_high": null["ci_high"],
            "detail": json.dumps({"null": "the model against itself, rounded"}),
        }
    )


def _of_one(dictionary: Crosscoder, model: int) -> Crosscoder:
    """The dictionary with one model's normaliser for both: what reads a model against itself."""
    from mneme.crosscoder import Crosscoder

    own = Crosscoder(dictionary.config, dictionary.width)
    own.load_state_dict(dictionary.state_dict())
    own.mean.copy_(own.mean[[model, model]])
    own.scale.copy_(own.scale[[model, model]])
    return own.eval()
