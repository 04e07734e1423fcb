"""A training's state and its steps, one after another; checkpoints that resume bit for bit.

    weights, x -> training_step -> gradients, clipped -> Adam -> weights

k falls from k_start * k to k early; the learning rate rises, stays, and falls to zero; the threshold of
inference is the running mean of the smallest value each step kept, taken once k has reached its value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mneme._util import distributed
from mneme._util.errors import ActivationError, CrosscoderError
from mneme._util.settings import stable_repr
from mneme.crosscoder.checkpoint import read_checkpoint, write_checkpoint
from mneme.crosscoder.config import CrosscoderConfig
from mneme.crosscoder.grid import Grid, check_ranks
from mneme.crosscoder.init import MEDIAN_SAMPLE, fit_normaliser, initial_weights, scaled_start, start_bias
from mneme.crosscoder.kernels import encodes_in_bf16
from mneme.crosscoder.module import Crosscoder
from mneme.crosscoder.restart import AT as RESTARTS
from mneme.crosscoder.restart import restart_dead
from mneme.crosscoder.start import start_directions
from mneme.crosscoder.step import Rule, Weights, global_norm, training_step
from mneme.harvest.protocols import Source
from mneme.models.device import pick_device

_COUNTERS = ("step", "threshold_sum", "threshold_weight", "hint", "rows")
_B_DEC = Weights._fields.index("b_dec")


class Trainer:
    """The state between steps."""

    def __init__(
        self, source: Source, config: CrosscoderConfig, folder: Path | None, corpus: int | None = None
    ) -> None:
        """corpus: rows that an epoch counts as, those held out included; default: the source's."""
        self.source, self.config, self.folder = source, config, folder
        if source.n < 2:
            raise ActivationError("there are too few activations to train on: give a longer corpus")
        check_ranks(config, config.latents_for(source.width), source.n)
        self.grid = grid = Grid.of_ranks(config.latent_shards)
        # Shares are of one size, so that the mean over ranks is the mean over tokens.
        self.batch_size = min(config.batch_size, source.n) // grid.n_parts * grid.n_parts
        n_tokens = config.tokens or math.ceil(config.epochs * (corpus or source.n))
        self.n_steps = max(1, n_tokens // self.batch_size)
        self.dead_feature_threshold = min(
            config.dead_feature_threshold, max(1, int(config.dead_share * n_tokens))
        )
        self.restarts = {round(share * self.n_steps) for share in RESTARTS}
        self.rows: list[dict[str, float]] = []
        mean, scale = fit_normaliser(self._read(8192), grid)
        self.home = mean.device  # where the activations are, and the crosscoder will be
        self.device = self.home if self.home.type != "cpu" else pick_device("auto")
        self.mean, self.scale = mean.to(self.device), scale.to(self.device)
        self.n_latents = config.latents_for(source.width)
        self.own = grid.own_latents(self.n_latents)
        self.bf16 = encodes_in_bf16(config, self.device)
        self.step = 0
        first = self._start()
        self.weights = Weights(*(part.requires_grad_() for part in first))
        self.optimizer = torch.optim.Adam(
            self.weights, lr=config.learning_rate, betas=(0.9, 0.999), fused=True
        )
        self.silent = torch.zeros(len(first.b_enc), dtype=torch.int64, device=self.device)
        self.threshold_sum = self.threshold_weight = 0.0
        self.hint = 0.0
        if folder is not None:
            self._resume(folder)

    def steps(self) -> Iterator[dict[str, float] | None]:
        """Run the steps that are left; yields a row for the log now and then."""
        for x in self._batches():
            yield self._one(x)
            if self.folder is not None and self.step % self.config.checkpoint_every == 0:
                self.save()

    def result(self) -> Crosscoder:
        """The trained module."""
        W = [self.grid.whole(part.detach()) for part in self.weights[:3]]
        model = Crosscoder(self.config, self.source.width).to(self.home)
        model.W_enc.copy_(W[0].unflatten(1, (2, -1)).permute(1, 2, 0))
        model.b_enc.copy_(W[1])
        model.W_dec.copy_(W[2].unflatten(1, (2, -1)).transpose(0, 1))
        model.b_dec.copy_(self.weights.b_dec.detach().unflatten(0, (2, -1)))
        model.mean.copy_(self.mean)
        model.scale.copy_(self.scale)
        model.threshold.fill_(self.threshold_sum / max(self.threshold_weight, 1e-12))
        return model

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for it; rank 0 does."""
        if self.folder is not None:
            state = self._state()
            if self.grid.rank == 0:
                write_checkpoint(self.folder, self._identity(), state)

    def _start(self) -> Weights:
        """The weights before the first step."""
        config, grid = self.config, self.grid
        sample = self._sample()
        bias = start_bias(sample.unflatten(1, (2, -1)))
        directions = start_directions(
            config.init,
            self._points,
            self.n_latents,
            self.n_steps * self.batch_size,
            self.batch_size,
            sample,
            bias,
            torch.Generator().manual_seed(config.seed),
            bf16=self.bf16,
            grid=grid,
        )
        k = None if config.variant == "l1" else round(self._k())
        return scaled_start(initial_weights(directions, bias), sample, k, grid)

    # one step

    def _one(self, x: Tensor) -> dict[str, float] | None:
        config = self.config
        k = self._k()
        rule = Rule(
            config.variant,
            k,
            config.auxk_alpha,
            config.aux_k or max(1, self.source.width // 2),
            config.l1_weight,
            self.hint,
            self.bf16,
        )
        dead = self.silent > self.dead_feature_threshold
        if config.init == "kmeans" and self.step in self.restarts:
            restart_dead(self.weights, dead, self._sample(), rule, self.optimizer.state, self.grid)
            self.silent[dead] = 0
            dead = torch.zeros_like(dead)
        sparse = config.kernel != "dense"
        result = training_step(self.weights, x, rule, dead, sparse=sparse, grid=self.grid)
        if not bool(torch.isfinite(result.loss)):
            raise CrosscoderError(
                f"the loss turned {float(result.loss)} at step {self.step}: lower crosscoder.learning_rate"
                " (the last good checkpoint is kept)"
            )
        for weight, grad in zip(self.weights, result.grads, strict=True):
            weight.grad = grad
        # Adam divides by it as it reads the gradients: a norm over the limit becomes the limit.
        norm = global_norm(result.grads, self.grid)
        self.optimizer.grad_scale = (norm / config.clip).clamp_min(1)  # type: ignore[attr-defined]  # torch reads it, without a declaration
        rate = config.learning_rate * self._rate_share()
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()  # or the next step's gradients would lie beside these
        self.silent += self.batch_size
        self.silent[result.fired] = 0
        self._follow_threshold(k, result.smallest)
        self.step += 1
        if self.step % config.log_every and self.step != self.n_steps:
            return None
        # x has E||x||^2 = d for each model, so the squared error over d is the unexplained share.
        power = self.grid.mean(x.unflatten(1, (2, -1)).square().sum(-1).mean(0))
        explained = 1 - result.squared_error / power
        row = {
            "step": self.step,
            "tokens": self.step * self.batch_size,
            "loss": float(result.loss),
            "aux_loss": float(result.aux_loss),
            "l0": result.l0,
            "k": k,
            "explained_variance_base": float(explained[0]),
            "explained_variance_tuned": float(explained[1]),
            "dead_share": float(self.grid.total(dead.float().mean())) / self.grid.shards,
            "learning_rate": rate,
        }
        self.rows.append(row)
        return row

    def _k(self) -> float:
        annealing = self.config.k_anneal_share * self.n_steps
        left = max(0.0, 1 - self.step / annealing) if annealing > 0 else 0.0
        k = self.config.k * (1 + (self.config.k_start - 1) * left)
        return min(k, self.n_latents)

    def _rate_share(self) -> float:
        rise = max(1.0, self.config.warmup_share * self.n_steps)
        fall = max(1.0, self.config.decay_share * self.n_steps)
        return min(1.0, (self.step + 1) / rise, (self.n_steps - self.step) / fall)

    def _follow_threshold(self, k: float, smallest: float) -> None:
        """The EMA of the smallest value kept, corrected for its start (as Adam's means are)."""
        self.hint = 0.9 * smallest
        if k > self.config.k and self.step + 1 < self.n_steps:
            return
        # A short training has fewer steps than the EMA's memory; the last tenth of them is then its window. The values
        # kept shrink to its end: with a longer window the threshold is too high and fewer than k fire.
        decay = min(self.config.threshold_decay, 1 - 10 / max(20, self.n_steps))
        self.threshold_sum = decay * self.threshold_sum + (1 - decay) * smallest
        self.threshold_weight = decay * self.threshold_weight + (1 - decay)

    # data and state

    def _batches(self) -> Iterator[Tensor]:
        """Normalised (B, 2d) batches, or this rank's share of them, from where training stands to its end."""
        per_epoch = self.source.n // self.batch_size  # a ragged last batch would change k * B
        for epoch in itertools.count(self.step // per_epoch):
            seed = self.config.seed * 1_000_003 + epoch
            batches: Iterable[Tensor] = self._read(self.batch_size, shuffle=True, seed=seed)
            begin = self.step - epoch * per_epoch
            for x in itertools.islice(batches, begin, per_epoch):
                if self.step >= self.n_steps:
                    return
                yield self._normalised(x)
            if self.step >= self.n_steps:
                return

    def _sample(self) -> Tensor:
        """(n, 2d) normalised, the same on all ranks and every time."""
        batches = self.source.batches(MEDIAN_SAMPLE, shuffle=True, seed=self.config.seed)
        sample = self._normalised(next(batches))
        self.grid.from_first([sample])
        return sample

    def _points(self, seed: int, whole: bool) -> Iterator[Tensor]:
        """One shuffled pass of normalised batches; whole: all of each, on every rank."""
        read = self.source.batches if whole else self._read
        for x in read(self.batch_size, shuffle=True, seed=seed):
            yield self._normalised(x)

    def _read(self, size: int, **order: Any) -> Iterator[Tensor]:
        """The source's batches; with several ranks this one's share of each."""
        if self.grid.n_ranks > 1:
            order["part"] = self.grid.part
        return self.source.batches(size, **order)

    def _normalised(self, x: Tensor) -> Tensor:
        return ((x.to(self.device, torch.float32) - self.mean) / self.scale[:, None]).flatten(1)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on: settings and data."""
        data = [float(self.mean.double().sum()), *self.scale.tolist(), self.source.n]
        return {"config": stable_repr(replace(self.config, latent_shards=1), "crosscoder"), "data": data}

    def _state(self) -> dict[str, Any]:
        """All latents' state, however they are sharded: any number of shards can go on from it. Collective."""
        optimizer = self.optimizer.state_dict()
        kept: dict[int, dict[str, Tensor]] = optimizer["state"]
        optimizer["state"] = {i: {name: self._whole(i, part) for name, part in kept[i].items()} for i in kept}
        return {
            "weights": [self._whole(i, part.detach()) for i, part in enumerate(self.weights)],
            "optimizer": optimizer,
            "silent": self._whole(0, self.silent),
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def _whole(self, parameter: int, part: Tensor) -> Tensor:
        """Of all latents what this rank has of its own; b_dec (the last) and Adam's counter are everyone's."""
        sharded = self.grid.shards > 1 and parameter < _B_DEC and part.ndim > 0
        return self.grid.whole(part).cpu() if sharded else part

    def _part(self, parameter: int, whole: Tensor) -> Tensor:
        """The inverse of `_whole`."""
        return whole[self.own] if parameter < _B_DEC and whole.ndim > 0 else whole

    def _resume(self, folder: Path) -> None:
        """Go on from a checkpoint, where there is one of this training."""
        state = read_checkpoint(folder, self._identity())
        steps = distributed.gather(lambda: None if state is None else state["step"])
        if len(set(steps)) > 1:
            raise CrosscoderError(
                f"the processes see different checkpoints in {folder}: put the run where all can read it"
            )
        if state is not None:
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        for i, (mine, saved) in enumerate(zip(self.weights, state["weights"], strict=True)):
            mine.data.copy_(self._part(i, saved))
        optimizer, kept = state["optimizer"], state["optimizer"]["state"]
        optimizer["state"] = {i: {name: self._part(i, part) for name, part in kept[i].items()} for i in kept}
        self.optimizer.load_state_dict(optimizer)
        self.silent.copy_(self._part(0, state["silent"]))
        for name in _COUNTERS:
            setattr(self, name, state[name])
