"""Capability: quizzes of WordNet's nouns that a small model can answer, by log-likelihood of the answers.

    score of a choice   log p(choice | question) - log p(choice | the same without what is asked), nats
    right               the right choice's score is the highest
    margin              the right choice's score less the mean of the others', nats

The second term takes away what makes a word likely anywhere (domain-conditional PMI: Holtzman et al. 2021, "Surface
form competition", arXiv 2104.08315). A question is read once for all its choices, and only these have logits.
data/words/ holds the items, wordnet_items.py made them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import OutcomesError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE
from mneme.effects.outcomes import Kept, Measured, summarise_items
from mneme.models.bundled import data_folder

_BATCH_TOKENS = 1024  # of answers, padded, whose logits are made at once
_TEXTS = 64  # read at once


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
    asked: dict[str, dict[str, None]] = {}
    for item in items:
        for text in (item.question, item.plain):
            asked.setdefault(text, {}).update(dict.fromkeys(item.choices))
    found: dict[tuple[str, str], float] = {}
    for texts in _alike(tokenizer, asked):
        pairs = [(text, choice) for text in texts for choice in asked[text]]
        found |= zip(pairs, _log_likelihoods(model, tokenizer, pairs), strict=True)
    return [
        np.array([found[item.question, choice] - found[item.plain, choice] for choice in item.choices])
        for item in items
    ]


def _alike(tokenizer: PreTrainedTokenizerBase, asked: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Texts of as many tokens each, so that nothing is padded before an answer; a few at once."""
    by_length: dict[int, list[str]] = {}
    for text in asked:
        by_length.setdefault(len(_tokens(tokenizer, text)), []).append(text)
    return [
        texts[start : start + _TEXTS]
        for _, texts in sorted(by_length.items())
        for start in range(0, len(texts), _TEXTS)
    ]


def _judged(scores: np.ndarray) -> Measured:
    """Margin, and whether the first is strictly the best: of a tie nothing is known to be right."""
    return Measured(float(scores[0] - scores[1:].mean()), bool(scores[0] > scores[1:].max()))


def _batches(items: Sequence[QuizItem], wanted: Sequence[int]) -> list[list[int]]:
    """Items that are read, and kept, together: of like length, 64 at once."""
    order = sorted(wanted, key=lambda i: (len(items[i].question), i))
    return [order[start : start + 64] for start in range(0, len(order), 64)]


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return bos + list(tokenizer(text, add_special_tokens=False)["input_ids"])


@torch.inference_mode()
def _log_likelihoods(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    """log p(answer | text) of each (text, answer), summed over the answer's tokens, nats; texts of as many tokens each.

    Every text is read once, without its last token; its answers start from what the model keeps of it (KV cache).
    """
    texts = list(dict.fromkeys(text for text, _ in pairs))
    before = [_tokens(tokenizer, text) for text in texts]
    answers = [list(tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]) for _, answer in pairs]
    of = torch.tensor([texts.index(text) for text, _ in pairs])
    start = torch.tensor(before, device=model.device)  # (texts, L)
    found = []
    for rows in _rows_at_once(answers):
        own = [answers[r] for r in rows]
        following = torch.zeros(len(rows), max(map(len, own)), dtype=torch.long)  # padded on the right
        for r, answer in enumerate(own):
            following[r, : len(answer)] = torch.tensor(answer)
        following = following.to(model.device)
        logits = _logits_after(model, start, of[rows].to(model.device), following)
        for r, answer in enumerate(own):
            of_answer = slice(0, len(answer))
            nll = torch.nn.functional.cross_entropy(
                logits[r, of_answer].float(), following[r, of_answer], reduction="sum"
            )
            found.append(-float(nll))
    return found


def _logits_after(
    model: PreTrainedModel, start: torch.Tensor, of: torch.Tensor, following: torch.Tensor
) -> torch.Tensor:
    """(B, A, V): logits of following (B, A), each after the text start[of] of (texts, L)."""
    used = torch.unique(of)
    place = torch.searchsorted(used, of)
    texts, n = start[used], following.shape[1]
    cache = None
    if not getattr(model, "_is_stateful", False):
        last = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}
        )
        cache = model(input_ids=texts[:, :-1], use_cache=True, **last).past_key_values
    ids = torch.cat([texts[place, -1:], following[:, :-1]], dim=1)
    if not isinstance(cache, DynamicCache):  # a state that can't be dealt out: every row is read whole
        whole = torch.cat([texts[place, :-1], ids], dim=1)
        found: torch.Tensor = model(input_ids=whole, use_cache=False).logits[:, -n:]
        return found
    cache.batch_select_indices(place)
    logits: torch.Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
    return logits


def _rows_at_once(answers: Sequence[Sequence[int]]) -> list[list[int]]:
    """Their indices, in order, as many together as a pass takes."""
    longest = max(map(len, answers))
    step = max(1, _BATCH_TOKENS // longest)
    return [list(range(i, min(i + step, len(answers)))) for i in range(0, len(answers), step)]
