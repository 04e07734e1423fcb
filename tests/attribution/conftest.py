"""Fixtures of the attribution room's tests."""

import pytest
import torch
from handmade import HandMade


@pytest.fixture
def make_crosscoder():
    """make(F, d, threshold, seed, dtype): random, its latents fire on about a third of tokens."""

    def make(F: int = 12, d: int = 8, threshold: float = 1.0, seed: int = 0, dtype=torch.float64) -> HandMade:
        g = torch.Generator().manual_seed(seed)
        decoder = torch.randn(2, F, d, generator=g, dtype=torch.float64).to(dtype)
        encoder = decoder.transpose(1, 2).contiguous() / d
        return HandMade(
            encoder, decoder, torch.randn(2, d, generator=g, dtype=torch.float64).to(dtype), threshold
        )

    return make
