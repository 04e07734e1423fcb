"""A causal language model in this process, asked through its own chat template, greedily."""

from __future__ import annotations

import threading
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from mneme._util.errors import ModelError
from mneme.interpret.clients.base import LOCAL, REPLY_TOKENS, Reply, ReplyError, local_identity, method_of
from mneme.models import load_model, load_tokenizer
from mneme.models.layers import most_positions


class LocalChat:
    """`Chat` by any transformers causal LM: hub id, folder, .gguf, adapter or bundled:base."""

    most_at_once: int | None = 1

    def __init__(self, spec: str, *, reply_tokens: int = REPLY_TOKENS) -> None:
        """Raises ModelError when the model can't be had or has no chat template."""
        self.tokenizer = load_tokenizer(spec)
        if not self.tokenizer.chat_template:
            raise ModelError(f"{spec} has no chat template: label with an instruction-tuned model")
        self.model: Any = load_model(spec)
        self.reply_tokens = reply_tokens
        self.method = method_of(LOCAL + spec)
        self.identity = local_identity(spec, reply_tokens)
        self._longest = most_positions(self.model)
        self._lock = threading.Lock()

    def reply(self, system: str, user: str) -> Reply:
        prompt: Any = self.tokenizer.apply_chat_template(
            [{"role": "system", "content": system}, {"role": "user", "content": user}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        n = int(prompt["input_ids"].shape[1])
        if self._longest is not None and n + self.reply_tokens > self._longest:
            longest = f"a model of {self._longest}"
            raise ReplyError(f"prompt and reply are {n + self.reply_tokens} tokens, too long for {longest}")
        # What follows a whole JSON object would not be read.
        enough = StoppingCriteriaList([_Closed(self.tokenizer, n)])
        with self._lock, torch.inference_mode():
            out = self.model.generate(
                **prompt.to(self.model.device),
                max_new_tokens=self.reply_tokens,
                stopping_criteria=enough,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id or self.tokenizer.eos_token_id,
            )
        new = out[0, n:]
        return Reply(str(self.tokenizer.decode(new, skip_special_tokens=True)), n, len(new))


class _Closed(StoppingCriteria):
    """Whether the reply, which begins at token `first`, holds as many closing braces as opening ones."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, first: int) -> None:
        self.tokenizer, self.first = tokenizer, first

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        text = str(self.tokenizer.decode(input_ids[0, self.first :]))
        closed = 0 < text.count("{") <= text.count("}")
        return torch.full((1,), closed, dtype=torch.bool, device=input_ids.device)
