"""Labels judged by a language model: it says of each window whether a feature of that label would be active in it.

One request holds a label and its windows of one test, positives and negatives mixed, as JSON data; the reply is a JSON
array of 0s and 1s, checked. Replies are kept and paid for once (clients/asking.py). A request without a usable reply is
listed with its reason and counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.errors import LabelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.clients.asking import Budget, ask_all
from mneme.interpret.clients.base import Chat
from mneme.interpret.clients.reply_json import last_passing
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.scorers.judge_items import Item, score_judge_items
from mneme.interpret.scorers.text_fit import shuffled
from mneme.interpret.selection import uniform_hash

_PROMPTS = {"detection": "detect.txt", "fuzzing": "fuzz.txt"}


class LLMScores(NamedTuple):
    """Rows of label_scores, label_examples (`at` for window) and label_failures."""

    scores: pd.DataFrame
    examples: pd.DataFrame
    failures: pd.DataFrame


def judge_labels(
    labels: Mapping[int, str],
    judge_items: dict[int, list[Item]],
    chat: Chat,
    folder: str | Path,
    *,
    budget: Budget | None = None,
    concurrency: int = 4,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> LLMScores:
    """Ask about each latent's label, and about another latent's label on the same windows.

    `labels`: of one method, per latent. `judge_items`: windows of those latents (`judge_items_of`); the held-out ones
    are read.
    """
    latents = list(labels)
    other = shuffled(len(latents), seed) if len(latents) > 1 else np.zeros(0, dtype=np.int64)
    said = {"own": labels} | (
        {"other": {j: labels[latents[int(o)]] for j, o in zip(latents, other, strict=True)}}
        if len(other)
        else {}
    )
    prompts: dict[tuple[str, int, str], Prompt] = {}
    order: dict[tuple[int, str], list[int]] = {}
    for latent in latents:
        for test in _PROMPTS:
            mine = [i for i, item in enumerate(judge_items[latent]) if item.held_out and item.test == test]
            if not mine:
                continue
            turn = uniform_hash(seed + 1, np.full(len(mine), latent, np.int64), np.array(mine, np.int64))
            order[latent, test] = [mine[i] for i in np.argsort(turn, kind="stable")]
            texts = [judge_items[latent][i].text for i in order[latent, test]]
            for who, names in said.items():
                user = json.dumps({"label": names[latent], "texts": texts}, ensure_ascii=False)
                prompts[who, latent, test] = Prompt(_instructions(test), user)
    asked = ask_all(
        prompts,
        chat,
        folder,
        read_verdicts,
        budget=budget,
        concurrency=concurrency,
        name=f"scores by {chat.method.partition(':')[2]}",
        progress=progress,
    )
    reasons = dict(asked.reasons)
    fits: dict[str, dict[int, list[float | None]]] = {"own": {}, "other": {}}
    for (who, latent, test), answer in asked.answers.items():
        places = order[latent, test]
        if len(answer.value) != len(places):
            reasons[who, latent, test] = f"the reply has {len(answer.value)} verdicts, not {len(places)}"
            continue
        into = fits[who].setdefault(latent, [None] * len(judge_items[latent]))
        for place, verdict in zip(places, answer.value, strict=True):
            into[place] = float(verdict)
    scores, examples = score_judge_items(judge_items, fits["own"], fits["other"], threshold=0.5, seed=seed)
    failures = [
        (latent, f"scored by {chat.method}", f"{test}, {who} label: {reason}")
        for (who, latent, test), reason in reasons.items()
    ]
    return LLMScores(
        scores.assign(scorer=chat.method),
        examples.assign(scorer=chat.method, fit=np.nan),
        pd.DataFrame(failures, columns=["latent", "method", "reason"]),
    )


def read_verdicts(reply: str | None) -> list[int]:
    """The 0s and 1s of a reply. Raises LabelError that says what is wrong with it."""
    return last_passing(reply or "", _verdicts, "array")


def _verdicts(found: list[Any]) -> list[int]:
    if not found:
        raise LabelError("the reply is an empty JSON array")
    if any(isinstance(v, bool) or not isinstance(v, int | float) or v not in (0, 1) for v in found):
        raise LabelError("the reply holds other things than 0 and 1")
    return [int(v) for v in found]


def _instructions(test: str) -> str:
    return files("mneme.interpret").joinpath("prompts", _PROMPTS[test]).read_text(encoding="utf-8")
