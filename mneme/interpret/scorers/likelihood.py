"""Labels judged by a local language model's own doubt: how much likelier it holds "yes" than "no".

Small models rarely reply with the array that llm_scorer.py asks for, yet their next-token probabilities tell texts
apart.
The fit is ln p(yes) - ln p(no) after one window and the question; as with the sentence encoder, a threshold is
chosen on training documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.clients.local import LocalChat
from mneme.interpret.scorers.judge_items import Item, score_judge_items
from mneme.interpret.scorers.text_fit import shuffled

_QUESTIONS = {
    "detection": 'Text: "{text}"\n\nIs the text, in any part, about or does it contain: {label}? Answer yes or no.',
    "fuzzing": 'Text: "{text}"\n\nDo the words between ⟦ and ⟧ fit the description: {label}? Answer yes or no.',
}
_BATCH = 16


def judge_by_likelihood(
    labels: Mapping[int, str],
    judge_items: dict[int, list[Item]],
    chat: LocalChat,
    *,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of label_scores and label_examples (`at` for window) for labels of one method, by latent.

    `judge_items`: the windows of those latents, training ones too.
    """
    latents = list(labels)
    other = shuffled(len(latents), seed) if len(latents) > 1 else np.zeros(0, dtype=np.int64)
    guessed = {j: labels[latents[int(o)]] for j, o in zip(latents, other, strict=False)}
    fits: dict[int, list[float | None]] = {}
    others: dict[int, list[float | None]] = {}
    with progress.task(f"scores by {chat.method}", total=len(latents), unit="labels") as task:
        for latent in latents:
            fits[latent] = [*doubts(chat, labels[latent], judge_items[latent])]
            if guessed:
                others[latent] = [*doubts(chat, guessed[latent], judge_items[latent])]
            task.advance()
    scores, examples = score_judge_items(judge_items, fits, others, threshold=None, seed=seed)
    return scores.assign(scorer=chat.method), examples.assign(scorer=chat.method)


def doubts(chat: LocalChat, label: str, items: Sequence[Item]) -> list[float]:
    """ln p(yes) - ln p(no) of each item."""
    tokenizer: Any = chat.tokenizer
    model = chat.model
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    asked = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": _QUESTIONS[item.test].format(text=item.text, label=label)}],
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        for item in items
    ]
    out = [0.0] * len(items)
    order = sorted(range(len(asked)), key=lambda i: -len(asked[i]))
    for begin in range(0, len(order), _BATCH):
        chosen = order[begin : begin + _BATCH]
        longest = len(asked[chosen[0]])
        # Padded on the right: causal attention doesn't look there.
        ids = torch.zeros(len(chosen), longest, dtype=torch.int64)
        for row, i in enumerate(chosen):
            ids[row, : len(asked[i])] = torch.tensor(asked[i])
        last = torch.tensor([len(asked[i]) - 1 for i in chosen])
        with torch.inference_mode():
            states = model.get_decoder()(input_ids=ids.to(model.device)).last_hidden_state
            logits = model.get_output_embeddings()(states[torch.arange(len(chosen)), last.to(states.device)])
        for i, row in zip(chosen, logits.float().cpu(), strict=True):
            out[i] = float(row[yes] - row[no])
    return out
