"""A batch of generations of one style, sampled from a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import (
    DynamicCache,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mneme.corpus.styles import Prompt


class Sampling(Protocol):
    """What is needed of SampleConfig."""

    @property
    def seed(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    config: Sampling,
    number: int,
) -> list[str]:
    """The texts that the model writes to `prompts` (all of one style), without the prompts.

    The worked examples before the prompts are the same for all, and read once. The random stream depends on the
    seed and the batch's number alone, and the caller's is left as it was.
    """
    examples = (
        tokenizer(prompts[0].examples, add_special_tokens=False)["input_ids"] if prompts[0].examples else []
    )
    rows = [tokenizer(_as_read(p, tokenizer), add_special_tokens=False)["input_ids"] for p in prompts]
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    longest = max(map(len, rows))  # T
    ids = torch.tensor([examples + [pad] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor(
        [[1] * len(examples) + [0] * (longest - len(row)) + [1] * len(row) for row in rows],
        device=model.device,
    )  # (B, E + T)
    extra: dict[str, Any] = {}
    if examples:
        extra = {
            "past_key_values": _read_once(model, ids[:1, : len(examples)], len(rows)),
            "stop_strings": ["\n\n"],
            "tokenizer": tokenizer,
        }
    with torch.random.fork_rng():
        torch.manual_seed(config.seed * 1_000_003 + number)
        output = model.generate(  # type: ignore[operator]  # GenerationMixin is not among its declared bases
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            logits_processor=LogitsProcessorList([_Nucleus(config)]),
            max_new_tokens=config.max_tokens + 15,  # so that a sentence ends before the longest document does
            pad_token_id=pad,
            **extra,
        )
    return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)


def _as_read(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> str:
    if prompt.examples:
        return prompt.text
    if tokenizer.chat_template is None:  # a model that never saw a chat: a heading invites the text
        return f"{prompt.text}\n\n"
    chat = [{"role": "user", "content": prompt.text}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def _read_once(model: PreTrainedModel, ids: torch.Tensor, n: int) -> DynamicCache:
    """Keys and values of ids (1, E), for a batch of n."""
    cache = DynamicCache(config=model.config)
    model(input_ids=ids, past_key_values=cache, use_cache=True)
    cache.batch_repeat_interleave(n)
    return cache


class _Nucleus(LogitsProcessor):
    """Temperature and nucleus among the `top_k` likeliest tokens.

    transformers' own sorts the whole vocabulary for each token: on a CPU that takes longer than the model.
    """

    def __init__(self, config: Sampling) -> None:
        self.config = config

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores (B, V) -> (B, V), -inf outside the nucleus."""
        top, index = torch.topk(scores / self.config.temperature, min(self.config.top_k, scores.shape[-1]))
        probability = top.softmax(-1)
        outside = probability.cumsum(-1) - probability >= self.config.top_p  # the likeliest always stays
        return torch.full_like(scores, -torch.inf).scatter(-1, index, top.masked_fill(outside, -torch.inf))
