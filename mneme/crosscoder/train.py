"""Training from the outside: one call, interruptible between steps, the same on one process or many.

Under torchrun every rank calls `train_crosscoder` with the same activations and settings; each reads its
share of every batch, rank 0 writes the checkpoints, and all return the same crosscoder.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mneme._util.memory import explained, keep_freed_memory
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.checkpoint import delete_checkpoint
from mneme.crosscoder.config import READ_OUT, CrosscoderConfig
from mneme.crosscoder.module import Crosscoder
from mneme.crosscoder.read_out import for_both_models, training_source
from mneme.crosscoder.source import as_source
from mneme.crosscoder.trainer import Trainer
from mneme.crosscoder.training_memory import training_advice
from mneme.harvest.held_out import TrainingRows, choose_held_out, document_hashes, topics_of
from mneme.harvest.protocols import Activations, Source

Log = Callable[[dict[str, float]], None]


def train_crosscoder(
    activations: Source | Tensor | np.ndarray | Iterable[Tensor | np.ndarray],
    config: CrosscoderConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
    log: Log | None = None,
) -> Crosscoder:
    """Learn one sparse dictionary of both models' activations.

    activations: (N, 2, d) tensor or array, ActivationCache, or an iterable of (B, 2, d) ones (read into memory);
    raw, models in the order base, tuned. `checkpoint`: a folder; training that was stopped goes on from there
    and ends with the same weights, bit for bit on CPU. With several ranks all must see that folder. `log` gets
    rows of the run's `training` table. Of a cache that says which document each row is of, `held_out_share` of the
    documents are not read; those that were are the crosscoder's `training_documents`.

    Raises ActivationError for activations that can't be learned from; CrosscoderError when the loss turns
    NaN (the last checkpoint is kept) or a checkpoint is of another training; OutOfMemoryError, which says what
    would fit.
    """
    config = config or CrosscoderConfig()
    whole = as_source(activations)
    source, documents = _without_held_out(whole, config.held_out_share)
    keep_freed_memory()
    with explained(lambda: training_advice(source.width, source.n, config)):
        trainer = Trainer(
            training_source(source, config.variant), config, Path(checkpoint) if checkpoint else None, whole.n
        )
        crosscoder = _train(trainer, progress, log)
    if config.variant in READ_OUT:
        crosscoder = for_both_models(crosscoder, source)
    crosscoder.training_documents = documents
    return crosscoder


def _without_held_out(source: Source, share: float) -> tuple[Source, Tensor | None]:
    """What training reads, and the hashes of its documents; None where the source does not say what they are."""
    if not (hasattr(source, "document") and hasattr(source, "read")):
        return source, None
    cache = cast(Activations, source)
    hashes = document_hashes(cache)
    held = choose_held_out(hashes, share, topics_of(cache))
    read = np.unique(hashes[~held & (hashes != 0)])
    return (TrainingRows(cache, ~held) if held.any() else source), torch.from_numpy(read)


def _train(trainer: Trainer, progress: Progress, log: Log | None) -> Crosscoder:
    with (
        progress.task("train crosscoder", total=trainer.n_steps, unit="steps") as task,
        interrupt_between_steps() as interrupted,
    ):
        task.advance(trainer.step)
        if log is not None:
            for earlier in trainer.rows:  # of the steps before the stop
                log(earlier)
        for row in trainer.steps():
            task.advance()
            if row is not None:
                task.note(f"explained variance {row['explained_variance_base']:.3f}")
                if log is not None:
                    log(row)
            if trainer.grid.any(torch.tensor(interrupted.is_set(), device=trainer.device)):
                trainer.save()
                raise KeyboardInterrupt
    if trainer.folder is not None and trainer.grid.rank == 0:
        delete_checkpoint(trainer.folder)
    return trainer.result()


@contextlib.contextmanager
def interrupt_between_steps() -> Iterator[threading.Event]:
    """Ctrl-C sets the event instead of stopping amid a step, whose half-made state no one could resume."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
