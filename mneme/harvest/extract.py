"""Read both models on the corpus, shard by shard.

For every shard of documents: batches of like length go through both models up to the layer, the activations land at
their tokens' places, the prefixes of some documents go on to the end (prefix_behaviour.py), what should not be learned
from is left out (BOS and padding never get in; attention sinks, whose norm is many times the median, would dominate
any squared loss), and the shard is written whole. A harvest that was stopped goes on after its last whole shard.

Several ranks (torchrun) take the shards in turn, so that each reads documents of its own; the files are those
that one process writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mneme._util import distributed
from mneme._util.errors import ActivationError
from mneme._util.memory import explained, keep_freed_memory
from mneme._util.progress import NULL_PROGRESS, Progress, Task
from mneme.corpus import Corpus
from mneme.corpus.windows import Window
from mneme.harvest import shards
from mneme.harvest.batch_memory import reading_advice
from mneme.harvest.behaviour import compare_predictions
from mneme.harvest.cache import ActivationCache
from mneme.harvest.config import HarvestConfig
from mneme.harvest.continuation import Continuation
from mneme.harvest.forward import PairReader
from mneme.harvest.kept_profile import kept_profile
from mneme.harvest.layer import choose_layer
from mneme.harvest.limits import check_room, estimated_bytes, logits_batch_tokens, within_limits
from mneme.harvest.plan import Plan, batches_of_like_length, make_plan, shard_batches
from mneme.harvest.prefix_behaviour import Prefix, measure
from mneme.harvest.shard_rows import ShardRows
from mneme.harvest.writer import ShardWriter
from mneme.models import ModelPair

_log = logging.getLogger(__name__)

_TRIED = 32  # tokens on which predictions are tried before the harvest
_ANYHOW = ("dtype", "device", "cache_gb", "remote", "batch_tokens")


def harvest(
    pair: ModelPair,
    corpus: Corpus,
    config: HarvestConfig,
    folder: str | Path,
    progress: Progress = NULL_PROGRESS,
    plan: Plan | None = None,
    *,
    profile: bool = False,
) -> ActivationCache:
    """Activations of both models after the layer, on every token of the corpus, cached in `folder`.

    A layer of `auto` is chosen by a profile of all layers (layer_profile.py), which the cache keeps; `profile`: measure
    it also where the layer is set.

    A finished harvest of the same pair, corpus and settings is returned as it is; an unfinished one goes on;
    one of something else is replaced. With several ranks all call this, with a folder that all see. `plan`: the
    corpus already tokenised under these settings (`make_plan` with those `within_limits` gives).

    Raises ConfigError (layer out of range), CorpusError (too short), ActivationError (a model gives NaN or
    infinity), DiskFullError (checked before the start), OutOfMemoryError (says what would fit).
    """
    keep_freed_memory()
    folder = Path(folder)
    config = within_limits(config, pair)
    plan = plan or make_plan(corpus, pair.tokenizer, config)
    n_ranks, rank = distributed.world_size(), distributed.rank()
    measured = None
    if (profile or config.layer == "auto") and not pair.remote:
        measure = partial(kept_profile, folder, pair, plan, progress)
        measured = distributed.gather(lambda: measure() if rank == 0 else None)[0]
    layer, why = choose_layer(config, pair, measured)
    config = replace(config, layer=layer)
    reader = PairReader(pair, layer, config.share_layers)
    continuation = Continuation(reader) if plan.behaviour.any() else None
    fingerprint = harvest_fingerprint(pair, corpus, config)
    earlier = distributed.gather(lambda: _resume(folder, fingerprint) if rank == 0 else None)[0]
    index = earlier or {
        "format": shards.FORMAT,
        "complete": False,
        "fingerprint": fingerprint,
        "pair": pair.fingerprint,
        "dtype": None if pair.remote else str(pair.base._module.dtype).removeprefix("torch."),
        "base": pair.base_id,
        "tuned": pair.tuned_id,
        "layer": layer,
        "layer_why": why,
        "n_layers": pair.n_layers,
        "n_shared_layers": reader.n_shared,
        "width": pair.width,
        "store_dtype": config.store_dtype,
        "sink_ratio": config.sink_ratio,
        "median_norm": None,
        "shards": [],
        "topics": plan.topics,
        "previews": plan.previews,
        "lengths": [len(ids) for ids in plan.tokens],
    }
    done = len(index["shards"])
    left = sum(map(plan.n_shard_tokens, range(done, len(plan.shards))))
    distributed.gather(lambda: check_room(folder, estimated_bytes(left, pair.width, config)))
    if left and not pair.remote:
        distributed.gather(lambda: _try_predictions(reader, plan, config) if rank == 0 else None)
    with (
        progress.task("harvest", total=plan.n_tokens, unit="tokens") as task,
        ShardWriter(folder, index) as writer,
    ):
        for number in range(done):
            task.advance(plan.n_shard_tokens(number))
        for first in range(done, len(plan.shards), n_ranks):
            mine = None  # the last round may have fewer shards than ranks
            if first + rank < len(plan.shards):
                mine = ShardRows(plan, first + rank, pair.width, getattr(torch, config.store_dtype))
            medians = distributed.gather(partial(_read_shard, reader, continuation, plan, mine, config, task))
            if index["median_norm"] is None:
                index["median_norm"] = medians[0]  # of the very first shard
            writer.start(partial(_write_shard, folder, mine, config, index["median_norm"]))
            others = set(range(first, min(first + n_ranks, len(plan.shards)))) - {first + rank}
            task.advance(sum(map(plan.n_shard_tokens, others)))
    index["complete"] = True
    distributed.gather(lambda: shards.write_index(folder, index) if rank == 0 else None)
    return ActivationCache(folder)


def harvest_fingerprint(pair: ModelPair, corpus: Corpus, config: HarvestConfig) -> str:
    """What a cache was made from: the pair's weights and tokenizer, the text, the settings (its layer a number)."""
    config = within_limits(config, pair)
    # How it is computed is left out, and the cap, which says what max_tokens now says.
    settings = {key: value for key, value in asdict(config).items() if key not in _ANYHOW}
    text = json.dumps([pair.fingerprint, corpus.fingerprint, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_shard(
    reader: PairReader,
    continuation: Continuation | None,
    plan: Plan,
    shard: ShardRows | None,
    config: HarvestConfig,
    task: Task,
) -> list[float] | None:
    """Run both models on a shard's documents; the median norms of base and tuned."""
    if shard is None:
        return None
    with explained(partial(reading_advice, reader.pair, reader.layer, config)):
        for batch in shard_batches(plan, shard.number, config):
            _read_batch(reader, plan, batch, shard, config.behaviour_tokens, task)
        if continuation is not None:
            task.note("what both models predict")  # meanwhile the bar stands still
            _measure(continuation, shard, config, plan.bos is not None)
            task.note("")
    return shard.median_norms()


def _measure(continuation: Continuation, shard: ShardRows, config: HarvestConfig, has_bos: bool) -> None:
    """Put what both models predict on the shard's prefixes at their tokens' rows."""
    size = logits_batch_tokens(continuation.pair, config)
    for batch in batches_of_like_length(list(shard.prefixes), size, has_bos):
        found = measure(continuation, [shard.prefixes.pop(start) for start in batch])
        for start, behaviour in zip(batch, found, strict=True):
            if not bool(behaviour.kl.isfinite().all()):
                values = torch.stack([behaviour.nll_base, behaviour.nll_tuned], 1)
                _refuse(continuation.reader, start, "predictions", values)
            shard.behaviour[:, shard.rows(start)] = torch.stack(list(behaviour))


@torch.no_grad()
def _try_predictions(reader: PairReader, plan: Plan, config: HarvestConfig) -> None:
    """What both models predict on the first few tokens must be numbers, also where no predictions will be measured.

    A float16 may overflow only after the layer that is read. Raises ActivationError.
    """
    text = torch.from_numpy(plan.tokens[0][:_TRIED]).long()
    ids = text if plan.bos is None else torch.cat([torch.tensor([plan.bos]), text])
    with explained(partial(reading_advice, reader.pair, reader.layer, config)):
        out = reader.read(ids[None], logits=True)
    if not all(bool(stream.isfinite().all()) for stream in (out.base, out.tuned)):
        return  # told when the text is read, with the layer's name
    assert out.base_logits is not None and out.tuned_logits is not None
    following = torch.cat([ids[1:], torch.tensor([-1])])
    found = compare_predictions(out.base_logits[0], out.tuned_logits[0], following)
    if not bool(found.kl.isfinite().all()):
        values = torch.stack([found.nll_base, found.nll_tuned], 1)[:-1]
        _refuse(reader, Window(0, 0, len(text)), "predictions", values)


def _write_shard(
    folder: Path, shard: ShardRows | None, config: HarvestConfig, medians: list[float]
) -> dict[str, Any] | None:
    """Write a shard without its attention sinks; its entry for the index."""
    if shard is None:
        return None
    tensors, counts = shard.kept([config.sink_ratio * norm for norm in medians])
    return {**shards.write_shard(folder, shard.number, tensors), **counts}


def _read_batch(
    reader: PairReader, plan: Plan, batch: list[Window], shard: ShardRows, behaviour_tokens: int, task: Task
) -> None:
    """Run both models on a batch of windows and put what they give at the windows' rows; keep prefixes for later."""
    before = int(plan.bos is not None)
    ids = torch.full((len(batch), before + max(w.length for w in batch)), plan.pad)
    if before:
        ids[:, 0] = int(plan.bos or 0)
        shard.n_bos += len(batch)
    for row, window in enumerate(batch):
        text = plan.tokens[window.document][window.start : window.start + window.length]
        ids[row, before : before + window.length] = torch.from_numpy(text).long()
    output = reader.read(ids)
    lengths = [window.length for window in batch]
    place = torch.arange(ids.shape[1]) - before
    inside = ((place >= 0) & (place < torch.tensor(lengths)[:, None])).to(output.base.device)
    pairs = torch.stack([output.base[inside], output.tuned[inside]], dim=1)  # (tokens, 2, d)
    norms = pairs.float().norm(dim=-1).cpu()
    pairs = pairs.to(shard.activations)  # from a GPU at once: it waits at every copy
    for row, (window, own, length) in enumerate(
        zip(batch, pairs.split(lengths), norms.split(lengths), strict=True)
    ):
        if not bool(length.isfinite().all()):
            _refuse(reader, window, f"activations after layer {reader.layer}", length)
        rows = shard.rows(window)
        shard.activations[rows], shard.norms[rows] = own, length
        if plan.behaviour[window.document] and window.start == 0:
            n = min(window.length, behaviour_tokens)
            following = torch.full((n,), -1)
            after = torch.from_numpy(plan.tokens[window.document][1 : n + 1])
            following[: len(after)] = after.long()
            start = slice(before + n)
            streams = output.base[row, start].clone(), output.tuned[row, start].clone()
            shard.prefixes[window._replace(length=n)] = Prefix(ids[row, start], streams, following)
        task.advance(window.length)


def _refuse(reader: PairReader, window: Window, what: str, values: torch.Tensor) -> None:
    """Say which model gives numbers that are none."""
    pair = reader.pair
    culprit = pair.base_id if not bool(values[:, 0].isfinite().all()) else pair.tuned_id
    raise ActivationError(
        f"{culprit} gives NaN or infinite {what} in document {window.document}: try dtype float32, or check"
        " the model's weights"
    )


def _resume(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The index of an earlier harvest of the same, up to its first damaged shard; None: start afresh."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.tmp"):  # halves of files, from a process that was killed
        file.unlink()
    index = shards.read_index(folder)
    if index is None or index["fingerprint"] != fingerprint:
        for file in (folder / shards.INDEX, *folder.glob("*.safetensors")):
            file.unlink(missing_ok=True)
        return None
    whole: list[dict[str, Any]] = []
    for entry in index["shards"]:
        try:
            shards.check_shard(folder, entry, content=True)
        except ActivationError as error:
            _log.warning("%s is kept up to a damaged shard, and read on from there: %s", folder, error)
            break
        whole.append(entry)
    return {**index, "complete": False, "shards": whole}
