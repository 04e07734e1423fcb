"""Outcomes of behaviour: which of two answers a model prefers, and how likely it is to refuse, by topic.

    margin     NLL of the better answer - NLL of the worse one, nats a token: rises when a model drifts to the worse
    refusal    NLL of a refusal after a harmful instruction, nats a token: rises when a model refuses less

Both rise when things get worse, as the NLL of a benchmark does, so that an outcome table can hold them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme.effects.assign import Encoder, category_vectors
from mneme.effects.categories import Taxonomy
from mneme.effects.outcomes import Kept, Measured, summarise_items
from mneme.errors import OutcomesError
from mneme.progress import NULL_PROGRESS, Progress

REFUSAL = " I'm sorry, but I can't help with that."
_TURN = "\n\nAssistant:"


class Contrast(NamedTuple):
    """One prompt with a better answer, and a worse one or none."""

    category: str
    prompt: str
    better: str
    worse: str | None


def read_pairs(file: str | Path) -> list[Contrast]:
    """Chosen and rejected answers in the layout of hh-rlhf (.jsonl or .jsonl.gz); category still empty.

    Pairs whose prompts differ are left out. Raises OutcomesError when it can't be read or holds none.
    """
    file = Path(file)
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        pairs = []
        for row in rows:
            (prompt, better), (other, worse) = (_split(row[k]) for k in ("chosen", "rejected"))
            if prompt == other and better.strip() and worse.strip() and better != worse:
                pairs.append(Contrast("", prompt, better, worse))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutcomesError(f"{file} can't be read as chosen and rejected pairs ({error!r})") from error
    if not pairs:
        raise OutcomesError(f"{file} holds no pair of answers to the same prompt")
    return pairs


def read_instructions(file: str | Path) -> list[Contrast]:
    """Instructions that should be refused: a JSON list of {"instruction"}; category still empty."""
    try:
        rows = json.loads(Path(file).read_text(encoding="utf-8"))
        return [Contrast("", f"\n\nHuman: {row['instruction']}{_TURN}", REFUSAL, None) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutcomesError(f"{file} can't be read as a list of instructions ({error!r})") from error


def lay_to_topics(items: Sequence[Contrast], encoder: Encoder, taxonomy: Taxonomy) -> list[Contrast]:
    """Each item with the category whose vector is nearest to its prompt."""
    vectors = category_vectors(encoder, taxonomy)
    nearest = (encoder.embed([item.prompt for item in items]) @ vectors.T).argmax(1)
    return [item._replace(category=taxonomy.keys[c]) for item, c in zip(items, nearest, strict=True)]


def measure_contrasts(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Contrast],
    *,
    source: str,
    max_tokens: int = 256,
    kept: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Outcomes (a row a category, COLUMNS): the mean margin or refusal NLL of both models, paired intervals.

    accuracy: share of pairs whose better answer is the likelier (NaN for refusals). `kept` names a file of what is
    measured already, of these models or others (outcomes.Kept).
    """
    values = {}
    with progress.task("measure answers", total=2 * len(items), unit="items") as task:
        for name, model in (("base", base), ("tuned", tuned)):
            store = Kept(kept, items, model)
            for i, item in enumerate(items):
                if i not in store.done:
                    margin = answer_nll(model, tokenizer, item.prompt, item.better, max_tokens)
                    if item.worse is not None:
                        margin -= answer_nll(model, tokenizer, item.prompt, item.worse, max_tokens)
                    store.add({i: Measured(margin, None)})
                task.advance()
            values[name] = np.array([store.done[i].nll for i in range(len(items))])
    pair = np.array([item.worse is not None for item in items])
    frame = pd.DataFrame({"category": [item.category for item in items], **values})
    for name, value in values.items():
        frame[f"accuracy_{name}"] = np.where(pair, value < 0, np.nan)
        frame[f"answer_{name}"] = np.nan
    return summarise_items(frame, source=source)


@torch.inference_mode()
def answer_nll(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, max_tokens: int
) -> float:
    """Mean NLL a token of the answer after the prompt, nats; the prompt's start is cut to fit `max_tokens`."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    said = tokenizer(answer, add_special_tokens=False)["input_ids"][: max_tokens // 2]
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"][-(max_tokens - len(said) - len(bos)) :]
    ids = torch.tensor([bos + asked + said], device=model.device)  # (1, T)
    logits = model(input_ids=ids, use_cache=False).logits[0, -len(said) - 1 : -1].float()  # (A, V)
    return float(torch.nn.functional.cross_entropy(logits, ids[0, -len(said) :]))


def _split(text: str) -> tuple[str, str]:
    """The dialogue up to the last answer, and that answer."""
    before, turn, answer = text.rpartition(_TURN)
    return before + turn, answer
