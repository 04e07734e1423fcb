"""Labels by a language model: each latent is one question (prompt.py), asked as clients/asking.py asks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.clients.asking import Asked, Budget, Usage, ask_all
from mneme.interpret.clients.base import Chat
from mneme.interpret.clients.factory import open_chat
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.explainers.names import budget_of
from mneme.interpret.explainers.prompt import Explanation, read_explanation
from mneme.interpret.label_config import LabelConfig


class LabelRun(NamedTuple):
    """What came of the questions."""

    labels: pd.DataFrame
    """latent, label, method ('llm:MODEL' or 'local:MODEL'), detail (JSON)."""
    failures: pd.DataFrame
    """latent, method, reason."""
    usage: Usage


def explain(
    prompts: Mapping[int, Prompt],
    chat: Chat,
    folder: str | Path,
    *,
    budget: Budget | None = None,
    concurrency: int = 4,
    wait: float = 0.5,
    progress: Progress = NULL_PROGRESS,
) -> LabelRun:
    """Ask about each latent, in this order. `folder`: where replies are kept.

    Latents beyond the budget, and those left when the server refuses the key or the model, are failures too.
    """
    asked: Asked[int, Explanation] = ask_all(
        prompts,
        chat,
        folder,
        read_explanation,
        budget=budget,
        concurrency=concurrency,
        name=f"labels by {chat.method.partition(':')[2]}",
        unit="latents",
        wait=wait,
        progress=progress,
    )
    labels = [
        (latent, answer.value.label, chat.method, _detail(answer.value, answer.response))
        for latent, answer in asked.answers.items()
    ]
    failures = [(latent, chat.method, reason) for latent, reason in asked.reasons.items()]
    return LabelRun(
        pd.DataFrame(labels, columns=["latent", "label", "method", "detail"]).astype({"latent": np.int32}),
        pd.DataFrame(failures, columns=["latent", "method", "reason"]).astype({"latent": np.int32}),
        asked.usage,
    )


def explain_all(
    names: Sequence[str],
    prompts: Mapping[int, Prompt],
    config: LabelConfig,
    folder: Path,
    progress: Progress = NULL_PROGRESS,
) -> list[LabelRun]:
    """Each explainer's labels of the same latents, one explainer after the other."""
    return [
        explain(
            prompts,
            open_chat(name, timeout=config.llm_timeout, reply_tokens=config.max_tokens),
            folder,
            budget=budget_of(name, config),
            concurrency=config.llm_concurrency,
            progress=progress,
        )
        for name in names
    ]


def _detail(found: Explanation, response: str) -> str:
    values = {
        "sentence": found.sentence,
        "role": found.role,
        "confidence": found.confidence,
        "receipt": response,
    }
    return json.dumps(values, ensure_ascii=False)
