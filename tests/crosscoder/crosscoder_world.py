"""Activations whose features are known."""

from __future__ import annotations

import torch


def planted(n: int = 640, width: int = 12, latents: int = 24, seed: int = 0) -> torch.Tensor:
    """Sparse combinations of planted directions; the tuned model has the last one twice as strongly."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(latents, width, generator=generator), dim=1)
    f = (torch.rand(n, latents, generator=generator) < 0.1) * torch.rand(n, latents, generator=generator)
    gain = torch.ones(latents)
    gain[-1] = 2
    return 5 * torch.stack([f @ directions, (f * gain) @ directions], dim=1) + 0.5
