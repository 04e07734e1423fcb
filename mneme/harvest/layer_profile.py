"""What each layer shows of a pair's difference: measured on a few texts before the harvest, to choose the layer by.

Two numbers a layer l. *Difference*: how far apart the residual streams after l are,

    |tuned - base| / |base|        root mean squares over tokens

*Restored*: the base model is run on from the tuned model's stream after l, and its predictions are held against the
tuned model's,

    1 - sum_i KL(patched || tuned)_i / sum_i KL(base || tuned)_i        over documents i

the share of the difference of the predictions that has passed into the stream by then: 0 before the first changed
layer, 1 after the last (unless the final norm or the output head differ), and what no dictionary of that layer can show
is the rest. This is activation patching (Meng et al. 2022, arXiv 2202.05262) of whole streams between two models.

Only the layers after l are run for a patch, on PROFILE_TOKENS tokens, and only layers that a coarse grid and the search
between two of its points ask for; what is 0 or 1 by construction is not run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mneme._util.progress import NULL_PROGRESS, Progress, Task
from mneme.harvest.batch_memory import LOGITS
from mneme.harvest.behaviour import compare_predictions
from mneme.harvest.continuation import run_on
from mneme.harvest.forward import started_midway
from mneme.harvest.layer_choice import ENOUGH
from mneme.harvest.plan import Plan
from mneme.models import ModelPair
from mneme.models.layers import layer_of_parameter, residual
from mneme.models.traced import handle
from mneme.stats.fieller import ratio_interval

SMALLEST_KL = 0.01
"""Mean KL(base || tuned), nats per token, below which no share is told: rounding would decide it."""
DOCUMENTS, LENGTH = 32, 32
"""Texts that are read, and tokens of each: 1,024 a model."""
_GRID = 8  # layers of the coarse grid
_WHOLE = 1e-3  # a smaller share left at the last changed layer is rounding: from there on nothing differs
_FEW = 16  # tokens on which a start midway is tried


class _Batch(NamedTuple):
    """R texts, BOS included; padding is on the right, where no token looks."""

    ids: Tensor
    """(R, T) int64."""
    where: Tensor
    """(R, T) bool: tokens of text."""
    row: Tensor
    """(n,) int64: the text of each of those, 0 .. R - 1."""


class _Read(NamedTuple):
    """What both models make of a batch."""

    batch: _Batch
    tuned: list[Tensor]
    """Of each layer the tuned model's stream, (R, T, d)."""
    logits: tuple[Tensor, Tensor]
    """(n, vocabulary) of base and tuned."""


def layer_profile(pair: ModelPair, plan: Plan, progress: Progress = NULL_PROGRESS) -> pd.DataFrame:
    """A row a layer: the columns of the table `layer_profile`.

    layer; changed (whether its own parameters differ); difference; restored, restored_low, restored_high (95%, over
    documents; NaN where it was not measured, or where the mean KL is under SMALLEST_KL); exact (known by construction,
    not measured); kl (mean KL(base || tuned) of the texts, nats per token); n_documents, n_tokens.
    For models that are here, not on a server.
    """
    batches = _batches(pair, plan)
    n_documents = sum(len(batch.ids) for batch in batches)
    with progress.task("layer profile", total=None) as task, torch.no_grad():
        reads, difference = _read_all(pair, batches, task)
        before = _per_text(reads, [read.logits[0] for read in reads])
        n_tokens = sum(int(batch.where.sum()) for batch in batches)
        kl = float(before.sum()) / max(n_tokens, 1)
        restored: dict[int, tuple[float, float, float]] = {}
        exact: dict[int, float] = {}
        if kl >= SMALLEST_KL:
            restored, exact = _restored(pair, reads, before, task)
    own = {layer_of_parameter(name, pair.layers_path) for name in pair.changed_parameters}
    rows = []
    for layer in range(pair.n_layers):
        known = exact.get(layer)
        share = restored.get(layer, (math.nan,) * 3 if known is None else (known,) * 3)
        rows.append((layer, layer in own, difference[layer], *share, known is not None))
    columns = ["layer", "changed", "difference", "restored", "restored_low", "restored_high", "exact"]
    return pd.DataFrame(rows, columns=columns).assign(kl=kl, n_documents=n_documents, n_tokens=n_tokens)


def _batches(pair: ModelPair, plan: Plan) -> list[_Batch]:
    """The first tokens of documents spread evenly over the text, in batches whose logits fit."""
    able = [index for index, ids in enumerate(plan.tokens) if len(ids) > 1] or list(range(len(plan.tokens)))
    chosen = np.unique(np.linspace(0, len(able) - 1, min(DOCUMENTS, len(able))).round().astype(int))
    before = int(plan.bos is not None)
    texts = [torch.from_numpy(plan.tokens[able[i]][:LENGTH]).long() for i in chosen]
    size = max(1, min(len(texts), LOGITS // pair.vocab_size // (LENGTH + before)))
    found = []
    for start in range(0, len(texts), size):
        group = texts[start : start + size]
        ids = torch.full((len(group), before + max(map(len, group))), plan.pad)
        where = torch.zeros(ids.shape, dtype=torch.bool)
        if before:
            ids[:, 0] = int(plan.bos or 0)
        for row, text in enumerate(group):
            ids[row, before : before + len(text)] = text
            where[row, before : before + len(text)] = True
        found.append(_Batch(ids, where, where.nonzero()[:, 0]))
    return found


def _read_all(pair: ModelPair, batches: Sequence[_Batch], task: Task) -> tuple[list[_Read], np.ndarray]:
    """Both models on the texts, every layer's stream; (n_layers,) the streams' relative difference."""
    apart, size, reads = np.zeros(pair.n_layers), np.zeros(pair.n_layers), []
    task.note("both models, every layer")
    for batch in batches:
        base, base_logits = _streams(pair, pair.base, batch)
        tuned, tuned_logits = _streams(pair, pair.tuned, batch)
        for layer, (one, other) in enumerate(zip(base, tuned, strict=True)):
            x, y = (stream[batch.where.to(stream.device)].double() for stream in (one, other))
            apart[layer] += float((y - x).square().sum())
            size[layer] += float(x.square().sum())
        reads.append(_Read(batch, tuned, (base_logits, tuned_logits)))
    return reads, np.sqrt(apart / np.maximum(size, 1e-30))


def _streams(pair: ModelPair, model: object, batch: _Batch) -> tuple[list[Tensor], Tensor]:
    """The stream after every layer, (R, T, d) each, and (n, vocabulary) logits at the batch's tokens of text."""
    layers = handle(model, pair.layers_path)
    ids = batch.ids.to(model.device)  # type: ignore[attr-defined]  # a TransformersModel
    kept = []
    with model.trace(input_ids=ids, use_cache=False):  # type: ignore[attr-defined]
        for index in range(pair.n_layers):
            kept.append(layers[index].output.save())
        logits = model.output.logits.save()  # type: ignore[attr-defined]
    return [residual(output) for output in kept], logits[batch.where.to(logits.device)]


def _restored(
    pair: ModelPair, reads: Sequence[_Read], before: np.ndarray, task: Task
) -> tuple[dict[int, tuple[float, float, float]], dict[int, float]]:
    """(layer -> share and its interval where it was measured; layer -> share where it is known by construction)."""
    first = pair.first_changed_layer or 0
    found: dict[int, tuple[float, float, float]] = {}
    exact = dict.fromkeys(range(first), 0.0)

    def measure(layer: int) -> float:
        if layer not in found:
            task.note(f"patching after layer {layer}")
            found[layer] = _share(before, _patched(pair, reads, layer))
        return found[layer][0]

    changed = [layer_of_parameter(name, pair.layers_path) for name in pair.changed_parameters]
    last = max((layer for layer in changed if layer is not None), default=first)
    if measure(last) >= 1 - _WHOLE:  # nothing that differs comes after it
        exact |= dict.fromkeys(range(last + 1, pair.n_layers), 1.0)
    end = last if last + 1 in exact else pair.n_layers - 1
    grid = sorted({int(layer) for layer in np.linspace(first, end, _GRID).round()})
    shares = [measure(layer) for layer in grid]
    crossing = next((i for i, share in enumerate(shares) if share >= ENOUGH), None)
    if crossing:
        low, high = grid[crossing - 1], grid[crossing]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if measure(middle) >= ENOUGH else (middle, high)
    return found, exact


def _patched(pair: ModelPair, reads: Sequence[_Read], layer: int) -> np.ndarray:
    """KL(patched || tuned) summed over each text: the base run on from the tuned model's stream."""
    skips = _starts_midway(pair, reads[0], layer)
    logits = [
        run_on(pair, pair.base, layer, read.batch.ids, read.tuned[layer], read.batch.where, skips=skips)
        for read in reads
    ]
    return _per_text(reads, logits)


def _starts_midway(pair: ModelPair, read: _Read, layer: int) -> bool:
    """Whether the base, started after the layer, gives what it gives when run whole with that stream put in."""
    ids, stream = read.batch.ids[:1, :_FEW], read.tuned[layer][:1, :_FEW]
    where = torch.ones_like(ids, dtype=torch.bool)
    whole, midway = (
        started_midway(lambda s=skips: run_on(pair, pair.base, layer, ids, stream, where, skips=s))  # type: ignore[misc]
        for skips in (False, True)
    )
    return midway is not None and (whole is None or torch.equal(whole, midway))


def _per_text(reads: Sequence[_Read], logits: Sequence[Tensor]) -> np.ndarray:
    """(D,) KL(one || tuned) summed over each text's tokens, in nats."""
    sums = []
    for read, one in zip(reads, logits, strict=True):
        nothing = torch.full((len(one),), -1)
        kl = compare_predictions(one, read.logits[1], nothing).kl.double()
        sums.append(torch.zeros(len(read.batch.ids), dtype=torch.float64).index_add_(0, read.batch.row, kl))
    return torch.cat(sums).numpy()


def _share(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """1 - sum(after) / sum(before), and its 95% interval over texts; NaN for ends that it has not."""
    ends = ratio_interval(before - after, before) or (math.nan, math.nan)
    return float(1 - after.sum() / before.sum()), *ends
