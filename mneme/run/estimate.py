"""What a run will read, write and hold in memory, said before hours of work: from sizes alone."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mneme._util.errors import DiskFullError

if TYPE_CHECKING:
    import torch

    from mneme.run.context import RunContext

FEW_DOCUMENTS = 30
"""Below, intervals over documents are wider than most changes: the usual least size of a sample."""
_PROCESS = 0.5e9  # Python with torch and transformers loaded, before any model


class Estimate(NamedTuple):
    """Sizes of one run; bytes."""

    tokens: int
    documents: int
    activations: int
    cap: float | None
    """harvest.cache_gb, as bytes."""
    codes: int
    crosscoder: int
    """Its file, and the training's checkpoint while a new one replaces it."""
    free: int
    """On the run's disk, what the run already has there counted as free."""
    memory: float
    """The most that harvest or training hold: on a GPU, of the GPU."""
    device: str

    @property
    def disk(self) -> int:
        """All that the run writes, but for its tables."""
        return self.activations + self.codes + self.crosscoder

    def sentence(self) -> str:
        """One line for people."""
        cap = f", capped at {_size(self.cap)}" if self.cap else ""
        return (
            f"{self.tokens:,} tokens of {self.documents:,} document{'s' * (self.documents != 1)}; on disk"
            f" {_size(self.disk)} (activations {_size(self.activations)}{cap}, codes {_size(self.codes)}, crosscoder"
            f" and checkpoints {_size(self.crosscoder)}) of {_size(self.free)} free; harvest and training take about"
            f" {_size(self.memory)} of memory on {self.device}"
        )

    @property
    def warning(self) -> str:
        """What the text's size means for the verdicts, where it is small; else empty."""
        if self.documents >= FEW_DOCUMENTS:
            return ""
        n = "1 document" if self.documents == 1 else f"{self.documents} documents"
        return (
            f"the text is {n}, however long: documents are the unit of evidence, and with fewer than"
            f" {FEW_DOCUMENTS} most verdicts stay open; give more documents (a .txt is split at empty lines)"
        )

    def check(self, folder: Path) -> None:
        """Raises DiskFullError when the disk can't hold it."""
        if self.disk > self.free:
            a_token = (self.activations + self.codes) / max(self.tokens, 1)
            fitting = max(0, int((self.free - self.crosscoder) / a_token))
            raise DiskFullError(
                f"the run needs {_size(self.disk)} and {folder} has {_size(self.free)} free: free some, name"
                f" another folder with --out, or lower harvest.max_tokens to {fitting:,} (now {self.tokens:,})"
            )


def _size(n_bytes: float) -> str:
    """1.2 GB, 34 MB."""
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{math.ceil(n_bytes / 1e6)} MB"


def estimate(context: RunContext) -> Estimate:
    """Of the run that `context` holds; loads the pair and tokenises the corpus, both kept for the harvest."""
    from mneme.harvest.batch_memory import LOGITS, bytes_a_token, weight_bytes
    from mneme.harvest.cache import IN_MEMORY_BYTES
    from mneme.harvest.limits import estimated_bytes
    from mneme.models.device import pick_device

    config, plan, pair = context.config, context.plan, context.pair
    model = pair.base._module
    activations = estimated_bytes(plan.n_tokens, pair.width, config.harvest)
    device = pick_device("auto") if pair.remote else model.device
    weights = 0 if pair.remote else weight_bytes(model, pair.tuned._module)
    item = next(model.parameters()).element_size()
    batch = config.harvest.batch_tokens * bytes_a_token(model)
    logits = 4 * LOGITS * item if config.harvest.behaviour_share > 0 else 0
    training, crosscoder = _crosscoder(context, device)
    on_host = _PROCESS + min(activations, IN_MEMORY_BYTES) if device.type == "cpu" else 0
    return Estimate(
        tokens=plan.n_tokens,
        documents=len(plan.tokens),
        activations=activations,
        cap=config.harvest.cache_gb and config.harvest.cache_gb * 1e9,
        codes=plan.n_tokens * (8 * config.crosscoder.k + 8),
        crosscoder=crosscoder,
        free=_free(context.folder),
        memory=weights + max(batch + logits, training) + on_host,
        device=str(device),
    )


def _crosscoder(context: RunContext, device: torch.device) -> tuple[float, int]:
    """Memory of a training step, and bytes on disk; of a crosscoder that is only loaded nothing is known."""
    from mneme.crosscoder.kernels import encodes_in_bf16
    from mneme.crosscoder.training_memory import training_bytes

    config, width = context.config.crosscoder, context.pair.width
    if context.config.load_crosscoder is not None:
        return 0.0, 0
    latents = config.latents_for(width)
    batch = min(config.batch_size, context.plan.n_tokens)
    bf16 = encodes_in_bf16(config, device)
    entries = 2 * 2 * width * latents  # encoder and decoder
    # float32: the model's file, and twice (old and new) a checkpoint of the weights and Adam's two means
    return training_bytes(latents, batch, width, config, bf16), math.ceil(4 * entries * (1 + 2 * 3))


def _free(folder: Path) -> int:
    """Free bytes on the folder's disk, plus the run's own files that will be overwritten or continued."""
    own = 0
    for name in ("activations", "codes", "crosscoder", "checkpoint"):
        own += sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())
    existing = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(existing).free + own
