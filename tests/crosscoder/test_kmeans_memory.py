"""What k-means holds at its height, beside what is told before it begins."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from mneme.crosscoder import CrosscoderConfig
from mneme.crosscoder.kmeans import spherical_kmeans
from mneme.crosscoder.training_memory import bytes_a_latent, bytes_a_token, start_bytes, training_bytes


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that operations make, as long as they live."""

    def __init__(self, *before: torch.Tensor) -> None:
        super().__init__()
        self.alive: dict[int, tuple[weakref.ref[Any], int, int]] = {}
        self.peak = 0
        for tensor in before:
            self._add(tensor)

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.alive[id(tensor)] = weakref.ref(tensor), storage.data_ptr(), storage.nbytes()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple | list) else [made]:
            if isinstance(part, torch.Tensor):
                self._add(part)
        self.alive = {key: each for key, each in self.alive.items() if each[0]() is not None}
        self.peak = max(self.peak, sum({at: size for _, at, size in self.alive.values()}.values()))
        return made


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("latents", "batch"), [(3000, 256), (300, 2000)])
def test_kmeans_holds_no_more_than_is_told(latents: int, batch: int, bf16: bool) -> None:
    width, generator = 24, torch.Generator().manual_seed(0)
    first, resort, reserve = (
        normalize(torch.randn(n, 2 * width, generator=generator), dim=1) for n in (latents, latents, batch)
    )
    batches = [normalize(torch.randn(batch, 2 * width, generator=generator), dim=1)]
    with Held(first, resort, reserve, *batches) as held:
        spherical_kmeans([batches] * 2, first, reserve, resort, bf16=bf16)
    told = start_bytes(latents, batch, width, bf16)
    assert 0.4 * told < held.peak <= told


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("latents", [4096, 131_072])
def test_at_the_largest_sizes_a_step_of_training_holds_more(latents: int, bf16: bool) -> None:
    config = CrosscoderConfig(n_latents=latents, init="kmeans")
    for width in (576, 4096):
        step = latents * bytes_a_latent(width, bf16) + 2048 * bytes_a_token(latents, width, config, bf16)
        assert start_bytes(latents, 2048, width, bf16) < step
        assert training_bytes(latents, 2048, width, config, bf16) == step
