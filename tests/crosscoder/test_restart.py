"""Dead latents of a training from k-means get directions of what is badly reconstructed."""

from __future__ import annotations

from dataclasses import replace

import torch
from crosscoder_world import planted
from torch.nn.functional import normalize

from mneme.crosscoder import CrosscoderConfig
from mneme.crosscoder.grid import ONE_RANK
from mneme.crosscoder.restart import restart_dead
from mneme.crosscoder.source import TensorSource
from mneme.crosscoder.step import Rule
from mneme.crosscoder.trainer import Trainer

CONFIG = CrosscoderConfig(
    n_latents=48, k=3, batch_size=64, epochs=8, encoder_dtype="float32", dead_share=0.02
)
RULE = Rule("batchtopk", 3, 1 / 32, 6, 0.0, 0.0, False)


def test_only_dead_latents_change_and_adam_forgets_them():
    trainer = Trainer(TensorSource(planted()), CONFIG, None)
    for _ in zip(range(10), trainer.steps(), strict=False):
        pass
    weights, state = trainer.weights, trainer.optimizer.state
    before = [part.detach().clone() for part in weights]
    dead = torch.zeros(48, dtype=torch.bool)
    dead[[2, 40]] = True
    restart_dead(weights, dead, trainer._sample(), RULE, state, ONE_RANK)
    for part, old in zip(weights[:3], before, strict=False):
        changed = (part != old).reshape(48, -1).any(1)
        assert torch.equal(changed, dead)
        assert (state[part]["exp_avg_sq"][dead] == 0).all() and (state[part]["exp_avg_sq"][~dead] > 0).any()
    assert torch.equal(weights.b_dec, before[3])
    length = before[2][~dead].norm(dim=1).mean()
    assert torch.allclose(weights.dec[dead].norm(dim=1), length.expand(2))


def test_the_direction_that_no_latent_has_is_found():
    trainer = Trainer(TensorSource(planted()), CONFIG, None)
    x, weights = trainer._sample(), trainer.weights
    lacking = normalize(torch.randn(24, generator=torch.Generator().manual_seed(5)), dim=0)
    with torch.no_grad():
        for part in (weights.enc, weights.dec):
            part -= (part @ lacking)[:, None] * lacking
    x = x + 30 * (torch.arange(len(x)) % 8 == 0)[:, None] * lacking
    dead = torch.arange(48) % 12 == 7
    restart_dead(weights, dead, x, RULE, trainer.optimizer.state, ONE_RANK)
    assert (normalize(weights.dec[dead], dim=1) @ lacking).max() > 0.95


def test_where_none_or_all_are_dead_nothing_changes():
    trainer = Trainer(TensorSource(planted()), CONFIG, None)
    before = trainer.weights.dec.detach().clone()
    for dead in (torch.zeros(48, dtype=torch.bool), torch.ones(48, dtype=torch.bool)):
        restart_dead(trainer.weights, dead, trainer._sample(), RULE, trainer.optimizer.state, ONE_RANK)
    assert torch.equal(trainer.weights.dec.detach(), before)


def test_a_training_from_kmeans_restarts_and_one_from_random_directions_does_not(monkeypatch):
    for init, times in (("kmeans", 4), ("random", 0)):
        called = []
        monkeypatch.setattr("mneme.crosscoder.trainer.restart_dead", lambda *_, c=called: c.append(1))
        for _ in Trainer(TensorSource(planted()), replace(CONFIG, init=init), None).steps():
            pass
        assert len(called) == times
