"""Which language model judges labels, by the settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.clients.factory import open_chat
from mneme.interpret.clients.local import LocalChat
from mneme.interpret.explainers.names import budget_of
from mneme.interpret.label_config import LabelConfig
from mneme.interpret.scorers.judge_items import Item
from mneme.interpret.scorers.likelihood import judge_by_likelihood
from mneme.interpret.scorers.llm_scorer import LLMScores, judge_labels
from mneme.interpret.scorers.score_labels import Judge


def choose_judge(
    names: Sequence[str], config: LabelConfig, folder: Path, progress: Progress = NULL_PROGRESS
) -> Judge | None:
    """The first of the explainers `names`, where labels.llm_score asks for one. `folder`: where replies are kept.

    A server's model is asked for verdicts; a local one is read by its probabilities.
    """
    if not config.llm_score or not names:
        return None
    chat = open_chat(names[0], timeout=config.llm_timeout, reply_tokens=config.max_tokens)
    if isinstance(chat, LocalChat):
        return partial(_by_likelihood, chat=chat, progress=progress)
    return partial(
        judge_labels,
        chat=chat,
        folder=folder,
        budget=budget_of(names[0], config),
        concurrency=config.llm_concurrency,
        progress=progress,
    )


def _by_likelihood(
    labels: dict[int, str], judge_items: dict[int, list[Item]], *, chat: LocalChat, progress: Progress
) -> LLMScores:
    scores, examples = judge_by_likelihood(labels, judge_items, chat, progress=progress)
    return LLMScores(scores, examples, pd.DataFrame({"latent": [], "method": [], "reason": []}))
