"""Gradients over the limit are scaled down to it, as by torch's own clipping before a plain Adam."""

from __future__ import annotations

import pytest
import torch
from crosscoder_world import planted

from mneme.crosscoder import CrosscoderConfig
from mneme.crosscoder.source import as_source
from mneme.crosscoder.step import Weights
from mneme.crosscoder.trainer import Trainer


@pytest.mark.parametrize("clip", [0.05, 1.0, 1e9], ids=["always", "sometimes", "never"])
def test_steps_are_those_of_a_plain_optimizer_on_clipped_gradients(clip, monkeypatch):
    config = CrosscoderConfig(
        n_latents=64,
        k=3,
        batch_size=64,
        tokens=64 * 6,
        clip=clip,
        encoder_dtype="float32",
        learning_rate=0.01,
        init="random",  # from k-means, dead latents start again, which the plain optimizer doesn't follow
    )
    trainer = Trainer(as_source(planted()), config, None)
    plain = Weights(*(part.detach().clone().requires_grad_() for part in trainer.weights))
    optimizer = torch.optim.Adam(plain, lr=config.learning_rate, fused=False)
    norms = []

    def recorded(weights, *args, **kwargs):
        found = step(weights, *args, **kwargs)
        for part, grad in zip(plain, found.grads, strict=True):
            part.grad = grad.clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(plain, clip)))
        return found

    from mneme.crosscoder.trainer import training_step as step

    monkeypatch.setattr("mneme.crosscoder.trainer.training_step", recorded)
    for _ in trainer.steps():
        optimizer.param_groups[0]["lr"] = trainer.optimizer.param_groups[0]["lr"]
        optimizer.step()
        for mine, expected in zip(trainer.weights, plain, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    assert len(norms) == 6
    assert {0.05: min(norms) > clip, 1.0: max(norms) > clip, 1e9: max(norms) < clip}[clip]
