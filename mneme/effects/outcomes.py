"""Outcomes: what really happened to a category, measured on a benchmark's own text.

A prediction is worth as much as the measurement it is held against. Three numbers an item, all from one
forward pass of each model over "question, options, Answer:":

    NLL        mean negative log-likelihood a token of the question and its options, in nats: moves smoothly,
               also where a small model answers at random
    answer     NLL of the right letter after "Answer:", in nats
    accuracy   whether the likeliest of " A", " B", ... after "Answer:" is the right one

A text without options has the first only. Items are the same for both models, so intervals come from a paired
bootstrap over items. Outcomes measured elsewhere come in through `read_outcomes`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import OutcomesError
from mneme._util.files import write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.effects.benchmark import LETTERS, Item, item_text, load_mmlu
from mneme.effects.outcome_files import COLUMNS, read_outcomes, write_outcomes
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE, NATS, NLL, chance_q
from mneme.stats.bootstrap import mean_interval, redraws
from mneme.stats.proportions import is_binary, paired_change

_log = logging.getLogger(__name__)

__all__ = [
    "COLUMNS",
    "Item",
    "Measured",
    "load_mmlu",
    "measure",
    "read_outcomes",
    "summarise",
    "write_outcomes",
]

REPLICATES = 2000
_FORMAT = 2  # of what is kept of a measured item; raised when that changes


class Measured(NamedTuple):
    """One item under one model: NLL in nats per token, and of text with options if the likeliest letter is right."""

    nll: float
    correct: bool | None
    answer: float | None = None
    """NLL of the right letter, nats."""


def measure(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    source: str = "mmlu",
    max_tokens: int = 256,
    batch_tokens: int = 4096,
    seed: int = 0,
    partial: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Measure both models on `items`: a row per category, columns as table `outcomes` (COLUMNS).

    base, tuned: mean NLL a token over the category's items, each item counting once; change = tuned - base
    with a 95% paired bootstrap interval over items. Items longer than `max_tokens` keep their end. `partial`
    names a file where finished batches are kept, so that a killed measurement goes on.

    Raises OutcomesError when there are no items.
    """
    if not items:
        raise OutcomesError("no items to measure: give a benchmark with at least one question")
    results = {}
    with progress.task("measure", total=2 * len(items), unit="items") as task:
        for name, model in (("base", base), ("tuned", tuned)):
            store = Kept(partial, items, model)
            for rows in _batches(tokenizer, items, max_tokens, batch_tokens):
                wanted = [row for row in rows if row.item not in store.done]
                if wanted:
                    store.add(_measure_batch(model, tokenizer, items, wanted))
                task.advance(len(rows))
            results[name] = [store.done[i] for i in range(len(items))]
    return summarise(items, results["base"], results["tuned"], source=source, seed=seed)


def summarise(
    items: Sequence[Item], base: Sequence[Measured], tuned: Sequence[Measured], *, source: str, seed: int = 0
) -> pd.DataFrame:
    """Per category: means of both models, change and its paired bootstrap interval (items resampled)."""
    frame = pd.DataFrame(
        {
            "category": [item.category for item in items],
            "base": [m.nll for m in base],
            "tuned": [m.nll for m in tuned],
            "accuracy_base": [_number(m.correct) for m in base],
            "accuracy_tuned": [_number(m.correct) for m in tuned],
            "answer_base": [_number(m.answer) for m in base],
            "answer_tuned": [_number(m.answer) for m in tuned],
            "chance": [1 / len(item.choices) if item.choices else float("nan") for item in items],
        }
    )
    return summarise_items(frame, source=source, seed=seed)


def capability_of(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The same answers as a capability: error rates, of those categories whose questions have a right answer.

    outcomes: of text with options, as `measure` gives them.
    """
    rows = outcomes[outcomes[["accuracy_base", "accuracy_tuned", "chance"]].notna().all(axis=1)]
    found = rows.assign(
        base=1 - rows["accuracy_base"],
        tuned=1 - rows["accuracy_tuned"],
        change=rows["accuracy_base"] - rows["accuracy_tuned"],
        ci_low=-rows["accuracy_high"],
        ci_high=-rows["accuracy_low"],
        unit=ERROR_RATE,
        kind=CAPABILITY,
    )
    return found.assign(chance_q=chance_q(found))


def summarise_items(
    frame: pd.DataFrame,
    *,
    source: str,
    unit: str = NATS,
    kind: str = NLL,
    benchmark: str = "outcomes",
    seed: int = 0,
) -> pd.DataFrame:
    """Per category, from a row an item: means, change of `tuned` - `base` with its paired bootstrap interval, and
    the interval of the change of accuracy (accuracy_low, accuracy_high), where that is known. An error rate's interval
    is the latter with its sign turned. Where all answers are right or wrong it is that of `paired_change`.

    frame: columns category, base, tuned, accuracy_base, accuracy_tuned, answer_base, answer_tuned (NaN: unknown); of
    questions with a right answer also chance, and margin_base and margin_tuned where they are known.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for category, group in frame.groupby("category", sort=True):
        change = (group["tuned"] - group["base"]).to_numpy(float)
        drawn = redraws(len(change), REPLICATES, rng)
        right = [group[name].to_numpy(float) for name in ("accuracy_base", "accuracy_tuned")]
        if is_binary(np.concatenate(right)):
            gained = paired_change(*right)
        else:
            gained = mean_interval(right[1] - right[0], drawn)
        row: dict[str, Any] = {"category": category, "change": change.mean()}
        row["accuracy_low"], row["accuracy_high"] = gained
        lost = (-gained[1], -gained[0])
        row["ci_low"], row["ci_high"] = lost if unit == ERROR_RATE else mean_interval(change, drawn)
        if "margin_base" in group:
            led = (group["margin_tuned"] - group["margin_base"]).to_numpy(float)
            row["margin_low"], row["margin_high"] = mean_interval(led, drawn)
        row |= {str(name): value for name, value in group.drop(columns="category").mean().items()}
        rows.append(row | {"n": len(group)})
    found = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    found = found.assign(source=source, unit=unit, kind=kind, benchmark=benchmark)
    return found.assign(chance_q=chance_q(found))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


class _Row(NamedTuple):
    """One item as tokens: of its `ids` the first `n_text` are question and options, the rest "Answer:"."""

    item: int
    ids: list[int]
    n_text: int


def _batches(
    tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], max_tokens: int, batch_tokens: int
) -> Iterator[list[_Row]]:
    """Items of like length together, `batch_tokens` padded tokens at most (one item at least)."""
    tail = tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"]
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = []
    for index, item in enumerate(items):
        text = tokenizer(item_text(item), add_special_tokens=False)["input_ids"]
        text = bos + text[-(max_tokens - len(bos) - len(tail)) :]
        rows.append(_Row(index, text + tail, len(text)))
    rows.sort(key=lambda row: (len(row.ids), row.item))
    batch: list[_Row] = []
    for row in rows:
        if batch and (len(batch) + 1) * len(row.ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.inference_mode()
def _measure_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], rows: list[_Row]
) -> dict[int, Measured]:
    """One forward pass over a batch of items, padded on the right."""
    longest = max(len(row.ids) for row in rows)  # T
    ids = torch.zeros(len(rows), longest, dtype=torch.long)  # (B, T)
    mask = torch.zeros_like(ids)
    for r, row in enumerate(rows):
        ids[r, : len(row.ids)] = torch.tensor(row.ids)
        mask[r, : len(row.ids)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, T, V)
    measured = {}
    for r, row in enumerate(rows):
        n = row.n_text
        nll = torch.nn.functional.cross_entropy(logits[r, : n - 1].float(), ids[r, 1:n])
        if not items[row.item].choices:
            measured[row.item] = Measured(float(nll), None)
            continue
        letters = [_letter_token(tokenizer, i) for i in range(len(items[row.item].choices))]
        said = logits[r, len(row.ids) - 1].float()
        right = items[row.item].answer
        answer = said.logsumexp(0) - said[letters[right]]
        measured[row.item] = Measured(float(nll), int(said[letters].argmax()) == right, float(answer))
    return measured


def _letter_token(tokenizer: PreTrainedTokenizerBase, choice: int) -> int:
    """The token of " A", " B", ... (its last, where a tokenizer splits the space off)."""
    found: int = tokenizer(f" {LETTERS[choice]}", add_special_tokens=False)["input_ids"][-1]
    return found


class Kept:
    """Measured items of one model on disk, a JSON line a batch; other items' or models' lines stay."""

    def __init__(
        self, path: str | Path | None, items: Sequence[Sequence[Any]], model: PreTrainedModel
    ) -> None:
        self.path = None if path is None else Path(path)
        self.done: dict[int, Measured] = {}
        if self.path is None:
            return
        digest = hashlib.sha256(json.dumps([_FORMAT, [list(item) for item in items]]).encode())
        for parameter in model.parameters():  # a sum a tensor tells apart models that differ in any of them
            digest.update(str(float(parameter.detach().double().sum())).encode())
        self.key = digest.hexdigest()
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        *lines, cut = text.split("\n")
        for line in lines:
            if (entry := _entry(line)) is not None and entry[0] == self.key:
                self.done |= entry[1]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if cut:  # a killed write leaves a line without its end: it goes
            write_text(self.path, "".join(line + "\n" for line in lines))

    def add(self, measured: dict[int, Measured]) -> None:
        self.done |= measured
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                items = json.dumps(measured)
                line = {
                    "key": self.key,
                    "sha256": hashlib.sha256(items.encode()).hexdigest(),
                    "items": measured,
                }
                file.write(json.dumps(line) + "\n")


def _entry(line: str) -> tuple[str, dict[int, Measured]] | None:
    """Key and items of a kept line; None of a damaged one, whose items are measured again."""
    try:
        found = json.loads(line)
        measured = {int(i): Measured(*m) for i, m in found["items"].items()}
        digest = hashlib.sha256(json.dumps(measured).encode()).hexdigest()
        whole = found.get("sha256", digest) == digest  # lines of earlier versions have none
        if whole:
            return str(found["key"]), measured
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    _log.warning("a kept line of outcomes is damaged: its items are measured again")
    return None
