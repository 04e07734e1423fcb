"""Triton's kernels against those of the CPU: by its interpreter, or with TRITON_INTERPRET=0 on a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from mneme.crosscoder import kernels

pytest.importorskip("triton", reason="triton is not installed: pip install 'mneme[triton]'")
from mneme.crosscoder import triton_kernels

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"


def problem(n_bags: int, rows: int, width: int, dtype: torch.dtype, seed: int = 0):
    """About 3 entries a bag, the first and the last without any."""
    g = torch.Generator().manual_seed(seed)
    bag = torch.randint(1, max(2, n_bags - 1), (3 * n_bags,), generator=g).sort().values
    index = torch.randint(rows, (3 * n_bags,), generator=g)
    weight = torch.randn(3 * n_bags, generator=g)
    return index, bag, weight, torch.randn(rows, width, generator=g).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 24, 512, 700])
def test_bags_add_up_as_on_the_cpu(width, dtype):
    index, bag, weight, table = problem(11, 7, width, dtype)
    found = triton_kernels.weighted_bags(*(t.to(DEVICE) for t in (index, bag, weight, table)), 11).cpu()
    expected = kernels.weighted_bags(index, bag, weight, table.float(), 11)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    assert not found[0].any() and not found[-1].any()


@pytest.mark.parametrize("width", [1, 24, 700])
def test_dots_of_pairs_are_those_of_the_cpu(width):
    latent, row, _, right = problem(11, 7, width, torch.float32)
    left = torch.randn(11, width, generator=torch.Generator().manual_seed(1))
    found = triton_kernels.pair_dots(*(t.to(DEVICE) for t in (left, right, row, latent))).cpu()
    torch.testing.assert_close(found, kernels.pair_dots(left, right, row, latent), rtol=1e-5, atol=1e-5)


def test_nothing_active_gives_zeros():
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    table = torch.randn(5, 6, device=DEVICE)
    assert not triton_kernels.weighted_bags(none, none, none.float(), table, 4).any()
    assert triton_kernels.pair_dots(table, table, none, none).shape == (0,)
    assert triton_kernels.weighted_bags(none, none, none.float(), table, 0).shape == (0, 6)


def test_a_whole_step_is_the_same_with_them(monkeypatch):
    from test_kernels_reference import make_weights, rule

    from mneme.crosscoder.step import training_step

    weights = make_weights(48, 16, seed=3)
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(4))
    dead = torch.zeros(48, dtype=torch.bool)
    plain = training_step(weights, x, rule(k=4.0), dead, sparse=True)
    calls = []
    monkeypatch.setattr(kernels, "triton_kernels", lambda device: calls.append(device) or triton_kernels)
    moved = type(weights)(*(part.to(DEVICE) for part in weights))
    step = training_step(moved, x.to(DEVICE), rule(k=4.0), dead.to(DEVICE), sparse=True)
    assert len(calls) == 4  # the decoding, the two weight gradients, the codes' gradient
    assert float(step.loss) == pytest.approx(float(plain.loss), rel=1e-5)
    for a, b in zip(step.grads, plain.grads, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=1e-6)
