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
from mneme.harvest.protocols import Source

Log = Callable[[dict[str, float]], None]


def train_crosscoder(
    activations: Source | Tensor | Iterable[Tensor],
    config: CrosscoderConfig | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
    log: Log | None = None,
) -> Crosscoder:
    """Learn one sparse dictionary of both models' activations.

    activations: (N, 2, d) tensor, ActivationCache, or an iterable of (B, 2, d) tensors (read into memory);
    raw, models in the order base, tuned. `checkpoint`: a folder; training that was stopped goes on from there
    and ends with the same weights, bit for bit on CPU. With several ranks all must see that folder. `log` gets
    rows of the run's `training` table.

    Raises ActivationError for activations that can't be learned from; CrosscoderError when the loss turns
    NaN (the last checkpoint is kept) or a checkpoint is of another training; OutOfMemoryError, which says what
    would fit.
    """
    config = config or CrosscoderConfig()
    source = as_source(activations)
    keep_freed_memory()
    with explained(lambda: training_advice(source.width, source.n, config)):
        return _train(source, config, checkpoint, progress, log)


def _train(
    source: Source,
    config: CrosscoderConfig,
    checkpoint: str | Path | None,
    progress: Progress,
    log: Log | None,
) -> Crosscoder:
    trainer = Trainer(
        training_source(source, config.variant), config, Path(checkpoint) if checkpoint else None
    )
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
    return for_both_models(trainer.result(), source) if config.variant in READ_OUT else trainer.result()


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
