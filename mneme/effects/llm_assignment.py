"""Latents assigned to categories by the language model that labels them, instead of the sentence encoder or beside it.

The model reads a latent's label and sentence and the list of categories (prompts/categories.txt), and names three at
most, with weights. Asked as labels are (interpret/clients/asking.py): paid for once, within the same budgets. A latent
that got no answer that can be used keeps the sentence encoder's weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.errors import LabelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.effects.categories import Taxonomy, load_taxonomy
from mneme.effects.config import EffectsConfig
from mneme.interpret.clients.asking import ask_all
from mneme.interpret.clients.factory import open_chat
from mneme.interpret.clients.reply_json import last_passing
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.explainers.names import budget_of, explainer_names, most_changed
from mneme.interpret.label_config import LabelConfig

MOST = 3  # categories a latent may be assigned to
_SLACK = 1e-6


class Named(NamedTuple):
    """What the model said."""

    weights: dict[int, np.ndarray]
    """Latent -> (C,), sums to <= 1: the rest is no category."""
    reasons: dict[int, str]
    """Why a latent has none."""


def named_categories(
    latents: pd.DataFrame,
    labels: pd.DataFrame,
    effects: EffectsConfig,
    config: LabelConfig,
    folder: Path,
    progress: Progress = NULL_PROGRESS,
) -> Named | None:
    """What the labelling model says of the latents it labels; None where `effects.assign` does not ask it.

    latents: the table `latents`. labels: columns latent, label, detail; the first row of a latent counts.
    folder: where replies are kept.
    """
    if effects.assign == "encoder":
        return None
    chosen = most_changed(latents, config.llm_max_latents, unchanged=config.llm_unchanged)
    first = labels.drop_duplicates("latent").set_index("latent", drop=False)
    return ask_categories(
        first.loc[[j for j in chosen.tolist() if j in first.index]],
        load_taxonomy(effects.taxonomy),
        explainer_names(config)[0],
        config,
        folder,
        progress,
    )


def ask_categories(
    labels: pd.DataFrame,
    taxonomy: Taxonomy,
    name: str,
    config: LabelConfig,
    folder: Path,
    progress: Progress = NULL_PROGRESS,
) -> Named:
    """Ask the explainer `name` (see `open_chat`) about each of the labels: columns latent, label, detail, in order.

    `folder`: where replies are kept.
    """
    asked = ask_all(
        category_prompts(labels, taxonomy),
        open_chat(name, timeout=config.llm_timeout, reply_tokens=config.max_tokens),
        folder,
        partial(read_categories, keys=taxonomy.keys),
        budget=budget_of(name, config),
        concurrency=config.llm_concurrency,
        name="categories by the labelling model",
        unit="latents",
        progress=progress,
    )
    return Named({latent: answer.value for latent, answer in asked.answers.items()}, asked.reasons)


def category_prompts(labels: pd.DataFrame, taxonomy: Taxonomy) -> dict[int, Prompt]:
    """The question about each latent. The instructions are the same for all, so that a server can keep them."""
    system = instructions() + "".join(
        json.dumps({c.key: f"{c.name}. {c.description}"}, ensure_ascii=False) + "\n"
        for c in taxonomy.categories
    )
    prompts = {}
    for latent, label, detail in labels[["latent", "label", "detail"]].itertuples(index=False):
        said = {"label": str(label)} | ({"sentence": sentence} if (sentence := _sentence(detail)) else {})
        prompts[int(latent)] = Prompt(system, json.dumps(said, ensure_ascii=False))
    return prompts


def read_categories(reply: str, keys: list[str]) -> np.ndarray:
    """(C,) weights from a reply. Raises LabelError that says what is wrong with it."""
    return last_passing(reply, partial(_weights, keys=keys))


def _weights(object_: dict[str, Any], keys: list[str]) -> np.ndarray:
    """(C,) weights of an object. Raises LabelError."""
    found = object_.get("areas")
    if not isinstance(found, Mapping):
        raise LabelError("the reply has no areas")
    if len(found) > MOST:
        raise LabelError(f"the reply names more than {MOST} areas")
    weights = np.zeros(len(keys), dtype=np.float32)
    at = {key: c for c, key in enumerate(keys)}
    for key, weight in found.items():
        if key not in at:
            raise LabelError(f"the reply names an area that is not in the list: {str(key)[:60]!r}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise LabelError("a weight of the reply is not a number from 0 to 1")
        weights[at[key]] = weight
    total = math.fsum(weights.tolist())
    if total > 1 + _SLACK:
        weights /= total
    return weights


def instructions() -> str:
    """The text of prompts/categories.txt."""
    return files("mneme.effects").joinpath("prompts", "categories.txt").read_text(encoding="utf-8")


def _sentence(detail: object) -> str:
    """The label's sentence, where its detail (JSON) has one."""
    try:
        found = json.loads(detail) if isinstance(detail, str) else {}
    except ValueError:
        return ""
    sentence = found.get("sentence") if isinstance(found, dict) else None
    return sentence if isinstance(sentence, str) else ""
