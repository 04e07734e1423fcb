"""Capability: quizzes of WordNet's nouns that a small model can answer, by log-likelihood of the answers.

    score of a choice   log p(choice | question) - log p(choice | the same without what is asked), nats
    right               the right choice's score is the highest
    margin              the right choice's score less the mean of the others', nats

The second term takes away what makes a word likely anywhere (domain-conditional PMI: Holtzman et al. 2021, "Surface
form competition", arXiv 2104.08315). Only logits of the choices' tokens are made. data/words/ holds the items,
wordnet_items.py made them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import OutcomesError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE
from mneme.effects.outcomes import Kept, Measured, summarise_items
from mneme.models.bundled import data_folder

_BATCH_TOKENS = 2048  # padded
_APART = 4  # tokens between the first and the last start of an answer in a pass


class _Form(NamedTuple):
    question: str
    plain: str
    """The same without what is asked."""


QUIZZES = {
    "words": _Form("Definition: {asked}\nThe word for this is:", "Definition:\nThe word for this is:"),
    "synonyms": _Form("Another word for {asked} is:", "Another word is:"),
    "definitions": _Form("The word {asked} means:", "The word means:"),
}
"""Names of the bundled quizzes."""


class QuizItem(NamedTuple):
    """A question with its choices, the right one first."""

    category: str
    question: str
    plain: str
    choices: tuple[str, ...]


def load_quiz(name: str, known: Collection[str]) -> list[QuizItem]:
    """The items of a bundled quiz whose category is one of `known`, those of the run's taxonomy.

    Raises OutcomesError where none is.
    """
    form = QUIZZES[name]
    text = (data_folder() / "words" / f"{name}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    items = [
        QuizItem(row["category"], form.question.format(asked=row["asked"]), form.plain, tuple(row["choices"]))
        for row in rows
        if row["category"] in known
    ]
    if not items:
        raise OutcomesError(
            f"the quiz {name} is of categories of the taxonomies default and mmlu, of which this run has none:"
            " measure it on a benchmark of its own categories (mneme measure RUN --benchmark FILE.jsonl)"
        )
    return items


def measure_quiz(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[QuizItem],
    *,
    name: str,
    seed: int = 0,
    partial: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Outcomes of kind capability (a row a category, COLUMNS): error rates, accuracy, margin, paired intervals.

    partial: a file of what is measured already (outcomes.Kept).
    """
    measured = {}
    with progress.task(f"measure {name}", total=2 * len(items), unit="items") as task:
        for model_name, model in (("base", base), ("tuned", tuned)):
            store = Kept(partial, items, model)
            wanted = [i for i in range(len(items)) if i not in store.done]
            task.advance(len(items) - len(wanted))
            for rows in _batches(items, wanted):
                scores = answer_scores(model, tokenizer, [items[i] for i in rows])
                store.add({i: _judged(own) for i, own in zip(rows, scores, strict=True)})
                task.advance(len(rows))
            measured[model_name] = [store.done[i] for i in range(len(items))]
    frame = pd.DataFrame({"category": [item.category for item in items]})
    for model_name, found in measured.items():
        right = np.array([float(bool(m.correct)) for m in found])
        frame[model_name] = 1 - right
        frame[f"accuracy_{model_name}"] = right
        frame[f"answer_{model_name}"] = np.nan
        frame[f"margin_{model_name}"] = [m.nll for m in found]
    frame["chance"] = [1 / len(item.choices) for item in items]
    return summarise_items(
        frame,
        source=f"quiz {name} (WordNet), {len(items)} items",
        unit=ERROR_RATE,
        kind=CAPABILITY,
        benchmark=name,
        seed=seed,
    )


def answer_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[QuizItem]
) -> list[np.ndarray]:
    """Of each item (choices,) scores, nats; see the module's text."""
    asked = {
        (text, choice) for item in items for choice in item.choices for text in (item.question, item.plain)
    }
    different = sorted(asked)
    tokens = [_tokens(tokenizer, *pair) for pair in different]
    found: dict[tuple[str, str], float] = {}
    for rows in _passes(tokens):
        values = _log_likelihoods(model, [tokens[i] for i in rows])
        found |= {different[i]: value for i, value in zip(rows, values, strict=True)}
    return [
        np.array([found[item.question, choice] - found[item.plain, choice] for choice in item.choices])
        for item in items
    ]


def _passes(tokens: Sequence[tuple[list[int], list[int]]]) -> list[list[int]]:
    """Rows read at once: answers that start within a few tokens of each other, so that few logits are made in vain."""
    passes: list[list[int]] = []
    longest = 0
    for i in sorted(range(len(tokens)), key=lambda i: (len(tokens[i][0]), len(tokens[i][1]), i)):
        before, after = map(len, tokens[i])
        longest = max(longest, before + after)
        full = bool(passes) and (len(passes[-1]) + 1) * longest > _BATCH_TOKENS
        if not passes or full or before - len(tokens[passes[-1][0]][0]) > _APART:
            passes.append([])
            longest = before + after
        passes[-1].append(i)
    return passes


def _judged(scores: np.ndarray) -> Measured:
    """Margin, and whether the first is strictly the best: of a tie nothing is known to be right."""
    return Measured(float(scores[0] - scores[1:].mean()), bool(scores[0] > scores[1:].max()))


def _batches(items: Sequence[QuizItem], wanted: Sequence[int]) -> list[list[int]]:
    """Items that are read, and kept, together: of like length, 64 at once."""
    order = sorted(wanted, key=lambda i: (len(items[i].question), i))
    return [order[start : start + 64] for start in range(0, len(order), 64)]


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str, answer: str) -> tuple[list[int], list[int]]:
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before, after = (
        list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (text, f" {answer}")
    )
    return bos + before, after


@torch.inference_mode()
def _log_likelihoods(model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
    """log p of each row's second part after its first, summed over its tokens, nats; one pass, padded on the right."""
    ends = [len(before) + len(after) for before, after in rows]
    ids = torch.zeros(len(rows), max(ends), dtype=torch.long)  # (B, T)
    mask = torch.zeros_like(ids)
    for r, (before, after) in enumerate(rows):
        ids[r, : ends[r]] = torch.tensor(before + after)
        mask[r, : ends[r]] = 1
    first, last = min(len(before) for before, _ in rows) - 1, max(ends) - 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    kept: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept["logits_to_keep"] = torch.arange(first, last, device=ids.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **kept).logits
    start = first if kept else 0
    found = []
    for r, (before, after) in enumerate(rows):
        at = slice(len(before) - 1 - start, ends[r] - 1 - start)
        own = torch.as_tensor(after, device=logits.device)
        found.append(-float(torch.nn.functional.cross_entropy(logits[r, at].float(), own, reduction="sum")))
    return found
