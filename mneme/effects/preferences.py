"""Outcomes of behaviour: which of two answers a model prefers, and how likely it is to refuse, by topic.

    margin     NLL of the better answer - NLL of the worse one, nats per token: rises when a model drifts to the worse
    refusal    NLL of a refusal after a harmful instruction, nats per token: rises when a model refuses less

Both rise when things get worse, as the NLL of a benchmark does, so that an outcome table can hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import CorpusError, OutcomesError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.reading import read_json
from mneme.corpus.rows import read_rows
from mneme.effects.assign import Encoder, category_vectors
from mneme.effects.categories import Taxonomy
from mneme.effects.outcome_kinds import BEHAVIOUR
from mneme.effects.outcomes import Kept, Measured, summarise_items

REFUSAL = " I'm sorry, but I can't help with that."
_TURN = "\n\nAssistant:"
_BATCH = 8  # items read at once, two answers each


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
        pairs = []
        for row, _ in read_rows(file):
            (prompt, better), (other, worse) = (_split(row[k]) for k in ("chosen", "rejected"))
            if prompt == other and better.strip() and worse.strip() and better != worse:
                pairs.append(Contrast("", prompt, better, worse))
    except (CorpusError, ValueError, KeyError, TypeError) as error:
        raise OutcomesError(f"{file} can't be read as chosen and rejected pairs ({error!r})") from error
    if not pairs:
        raise OutcomesError(f"{file} holds no pair of answers to the same prompt")
    return pairs


def read_instructions(file: str | Path) -> list[Contrast]:
    """Instructions that should be refused: a JSON list of {"instruction"}; category still empty."""
    try:
        rows = read_json(file)
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
    """Outcomes (a row per category, COLUMNS): the mean margin or refusal NLL of both models, paired intervals.

    accuracy: share of pairs whose better answer is the likelier (NaN for refusals). `kept` names a file of what is
    measured already, of these models or others (outcomes.Kept).
    """
    values = {}
    with progress.task("measure answers", total=2 * len(items), unit="items") as task:
        for name, model in (("base", base), ("tuned", tuned)):
            store = Kept(kept, items, model)
            for start in range(0, len(items), _BATCH):
                wanted = [i for i in range(start, min(start + _BATCH, len(items))) if i not in store.done]
                asked = [
                    (i, sign, a) for i in wanted for sign, a in ((1, items[i].better), (-1, items[i].worse))
                ]
                asked = [row for row in asked if row[2] is not None]
                pairs = [(items[i].prompt, str(answer)) for i, _, answer in asked]
                margins = dict.fromkeys(wanted, 0.0)
                for (i, sign, _), nll in zip(
                    asked, answer_nlls(model, tokenizer, pairs, max_tokens), strict=True
                ):
                    margins[i] += sign * nll
                store.add({i: Measured(margin, None) for i, margin in margins.items()})
                task.advance(min(_BATCH, len(items) - start))
            values[name] = np.array([store.done[i].nll for i in range(len(items))])
    pair = np.array([item.worse is not None for item in items])
    frame = pd.DataFrame({"category": [item.category for item in items], **values})
    for name, value in values.items():
        frame[f"accuracy_{name}"] = np.where(pair, value < 0, np.nan)
        frame[f"answer_{name}"] = np.nan
    return summarise_items(frame, source=source, kind=BEHAVIOUR, benchmark="answers")


@torch.inference_mode()
def answer_nlls(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    said: Sequence[tuple[str, str]],
    max_tokens: int,
) -> list[float]:
    """Mean NLL a token, nats, of each answer after its prompt, whose start is cut to fit `max_tokens`; one pass."""
    if not said:
        return []
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    rows = []
    for prompt, answer in said:
        answered = tokenizer(answer, add_special_tokens=False)["input_ids"][: max_tokens // 2]
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        rows.append((bos + asked[-(max_tokens - len(answered) - len(bos)) :], answered))
    longest = max(len(asked) + len(answered) for asked, answered in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)  # (B, T), padded on the right
    mask = torch.zeros_like(ids)
    for r, (asked, answered) in enumerate(rows):
        ids[r, : len(asked) + len(answered)] = torch.tensor(asked + answered)
        mask[r, : len(asked) + len(answered)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, T, V)
    found = []
    for r, (asked, answered) in enumerate(rows):
        of = slice(len(asked), len(asked) + len(answered))
        before = logits[r, of.start - 1 : of.stop - 1].float()  # (A, V)
        found.append(float(torch.nn.functional.cross_entropy(before, ids[r, of])))
    return found


def _split(text: str) -> tuple[str, str]:
    """The dialogue up to the last answer, and that answer."""
    before, turn, answer = text.rpartition(_TURN)
    return before + turn, answer
