"""The rows of one shard of a harvest, filled batch by batch."""

from __future__ import annotations

import torch

from mneme.corpus.windows import Window
from mneme.harvest.plan import Plan
from mneme.harvest.prefix_behaviour import Prefix


class ShardRows:
    """One shard in the making: a row for every token of its documents."""

    def __init__(self, plan: Plan, number: int, width: int, dtype: torch.dtype) -> None:
        self.number, documents = number, plan.shards[number]
        lengths = torch.tensor([len(plan.tokens[d]) for d in documents])
        self.first = documents.start
        self.starts = torch.cumsum(lengths, 0) - lengths
        self.token = torch.cat([torch.from_numpy(plan.tokens[d]) for d in documents])
        self.document = torch.repeat_interleave(torch.arange(documents.start, documents.stop), lengths).int()
        self.position = (torch.arange(len(self.token)) - self.starts.repeat_interleave(lengths)).int()
        self.activations = torch.empty(len(self.token), 2, width, dtype=dtype)
        self.norms = torch.empty(len(self.token), 2)
        self.behaviour = torch.full((3, len(self.token)), torch.nan)
        self.n_bos = 0
        self.prefixes: dict[Window, Prefix] = {}  # by what is measured of each

    def rows(self, window: Window) -> slice:
        """Where a window's tokens lie."""
        start = int(self.starts[window.document - self.first]) + window.start
        return slice(start, start + window.length)

    def median_norms(self) -> list[float]:
        """Of base and tuned."""
        return [float(norm) for norm in self.norms.median(0).values]

    def kept(self, limits: list[float]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """The shard's tensors without tokens whose norm is over the limit in either model, and the counts."""
        keep = (self.norms <= torch.tensor(limits)).all(1)
        kl, nll_base, nll_tuned = self.behaviour[:, keep]
        tensors = {
            "activations": self.activations[keep],
            "document": self.document[keep],
            "position": self.position[keep],
            "token": self.token[keep],
            "kl": kl,
            "nll_base": nll_base,
            "nll_tuned": nll_tuned,
            "document_tokens": self.token,
        }
        base, tuned = tensors["activations"].unbind(1)
        counts = {
            "n_skipped_bos": self.n_bos,
            "n_skipped_sinks": int((~keep).sum()),
            "n_differing": int((base != tuned).any(1).sum()),
        }
        return tensors, counts
